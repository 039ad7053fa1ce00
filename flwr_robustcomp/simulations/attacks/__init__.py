"""Attacks that scenarios can name: the Byzantine mods, and the colluding ones, which see the honest replies of a round.

`ATTACKS` is their one closed registry; every member has a ``kind``: label, update or colluding. Builds on no other part of the
simulations.
"""

from __future__ import annotations

from flwr_robustcomp.clients import ATTACK_MODS, LabelAttack, UpdateAttack
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.bounce import Bounce
from flwr_robustcomp.simulations.attacks.cancelling_pairs import CancellingPairs
from flwr_robustcomp.simulations.attacks.clip_aware import ClipAware
from flwr_robustcomp.simulations.attacks.cliques import Cliques
from flwr_robustcomp.simulations.attacks.cluster_mimic import ClusterMimic
from flwr_robustcomp.simulations.attacks.decoys import Decoys
from flwr_robustcomp.simulations.attacks.drift import Drift
from flwr_robustcomp.simulations.attacks.hidden_tails import HiddenTails
from flwr_robustcomp.simulations.attacks.inner_product import InnerProduct
from flwr_robustcomp.simulations.attacks.little_is_enough import LittleIsEnough
from flwr_robustcomp.simulations.attacks.mimic import Mimic
from flwr_robustcomp.simulations.attacks.min_max import MinMax, MinSum
from flwr_robustcomp.simulations.attacks.most_agreed_sign_flip import MostAgreedSignFlip
from flwr_robustcomp.simulations.attacks.residual_pumping import ResidualPumping
from flwr_robustcomp.simulations.attacks.rod import Rod
from flwr_robustcomp.simulations.attacks.rod_with_residuals import RodWithResiduals
from flwr_robustcomp.simulations.attacks.slow_drift import SlowDrift
from flwr_robustcomp.simulations.attacks.spike import Spike
from flwr_robustcomp.simulations.attacks.spread import Spread
from flwr_robustcomp.simulations.attacks.swamp import Swamp
from flwr_robustcomp.simulations.attacks.under_eigenvalue import UnderEigenvalue
from flwr_robustcomp.simulations.attacks.under_threshold import UnderThreshold
from flwr_robustcomp.simulations.attacks.warm_up import WarmUp

__all__ = [
    "ATTACKS",
    "COLLUSIONS",
    "Bounce",
    "CancellingPairs",
    "ClipAware",
    "Cliques",
    "ClusterMimic",
    "Collusion",
    "Decoys",
    "Drift",
    "HiddenTails",
    "InnerProduct",
    "LittleIsEnough",
    "Mimic",
    "MinMax",
    "MinSum",
    "MostAgreedSignFlip",
    "ResidualPumping",
    "Rod",
    "RodWithResiduals",
    "Seen",
    "SlowDrift",
    "Spike",
    "Spread",
    "Swamp",
    "UnderEigenvalue",
    "UnderThreshold",
    "WarmUp",
]

COLLUSIONS: dict[str, type[Collusion]] = {
    "bounce": Bounce,
    "cancelling-pairs": CancellingPairs,
    "clip-aware": ClipAware,
    "cliques": Cliques,
    "cluster-mimic": ClusterMimic,
    "decoys": Decoys,
    "drift": Drift,
    "hidden-tails": HiddenTails,
    "inner-product": InnerProduct,
    "little-is-enough": LittleIsEnough,
    "mimic": Mimic,
    "min-max": MinMax,
    "min-sum": MinSum,
    "most-agreed-sign-flip": MostAgreedSignFlip,
    "residual-pumping": ResidualPumping,
    "rod": Rod,
    "rod-with-residuals": RodWithResiduals,
    "slow-drift": SlowDrift,
    "spike": Spike,
    "spread": Spread,
    "swamp": Swamp,
    "under-eigenvalue": UnderEigenvalue,
    "under-threshold": UnderThreshold,
    "warm-up": WarmUp,
}
"""Every colluding attack by the name that scenarios use."""

ATTACKS: dict[str, type[UpdateAttack] | type[LabelAttack] | type[Collusion]] = {**ATTACK_MODS, **COLLUSIONS}
"""Every attack by the name that scenarios use."""
