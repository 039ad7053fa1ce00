"""Attacks that scenarios can name: the Byzantine mods, and the colluding ones, which see the honest replies of a round.

`ATTACKS` is their one closed registry; every member has a ``kind``: label, update or colluding. Builds on no other part of the
simulations.
"""

from __future__ import annotations

from flwr_robustcomp.clients import ATTACK_MODS, LabelAttack, UpdateAttack
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.bounce import Bounce
from flwr_robustcomp.simulations.attacks.cancelling_pairs import CancellingPairs
from flwr_robustcomp.simulations.attacks.decoys import Decoys
from flwr_robustcomp.simulations.attacks.drift import Drift
from flwr_robustcomp.simulations.attacks.inner_product import InnerProduct
from flwr_robustcomp.simulations.attacks.little_is_enough import LittleIsEnough
from flwr_robustcomp.simulations.attacks.mimic import Mimic
from flwr_robustcomp.simulations.attacks.min_max import MinMax, MinSum
from flwr_robustcomp.simulations.attacks.most_agreed_sign_flip import MostAgreedSignFlip
from flwr_robustcomp.simulations.attacks.rod import Rod
from flwr_robustcomp.simulations.attacks.rod_with_residuals import RodWithResiduals
from flwr_robustcomp.simulations.attacks.slow_drift import SlowDrift
from flwr_robustcomp.simulations.attacks.spike import Spike
from flwr_robustcomp.simulations.attacks.spread import Spread
from flwr_robustcomp.simulations.attacks.swamp import Swamp
from flwr_robustcomp.simulations.attacks.under_eigenvalue import UnderEigenvalue
from flwr_robustcomp.simulations.attacks.under_threshold import UnderThreshold

__all__ = [
    "ATTACKS",
    "COLLUSIONS",
    "Bounce",
    "CancellingPairs",
    "Collusion",
    "Decoys",
    "Drift",
    "InnerProduct",
    "LittleIsEnough",
    "Mimic",
    "MinMax",
    "MinSum",
    "MostAgreedSignFlip",
    "Rod",
    "RodWithResiduals",
    "Seen",
    "SlowDrift",
    "Spike",
    "Spread",
    "Swamp",
    "UnderEigenvalue",
    "UnderThreshold",
]

COLLUSIONS: dict[str, type[Collusion]] = {
    "bounce": Bounce,
    "cancelling-pairs": CancellingPairs,
    "decoys": Decoys,
    "drift": Drift,
    "inner-product": InnerProduct,
    "little-is-enough": LittleIsEnough,
    "mimic": Mimic,
    "min-max": MinMax,
    "min-sum": MinSum,
    "most-agreed-sign-flip": MostAgreedSignFlip,
    "rod": Rod,
    "rod-with-residuals": RodWithResiduals,
    "slow-drift": SlowDrift,
    "spike": Spike,
    "spread": Spread,
    "swamp": Swamp,
    "under-eigenvalue": UnderEigenvalue,
    "under-threshold": UnderThreshold,
}
"""Every colluding attack by the name that scenarios use."""

ATTACKS: dict[str, type[UpdateAttack] | type[LabelAttack] | type[Collusion]] = {**ATTACK_MODS, **COLLUSIONS}
"""Every attack by the name that scenarios use."""
