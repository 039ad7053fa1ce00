"""What runs on a node: the compression mod with its error-feedback memory, and the Byzantine mods.

`ATTACK_MODS` is the closed registry of Byzantine mods; `simulations.attacks.ATTACKS` adds the colluding attacks.
"""

from __future__ import annotations

from flwr_robustcomp.clients.attack import Attack, Kind
from flwr_robustcomp.clients.backdoor import BackdoorTrigger
from flwr_robustcomp.clients.client_momentum import ClientMomentum
from flwr_robustcomp.clients.compression_mod import CompressionMod
from flwr_robustcomp.clients.gaussian_noise import GaussianNoise
from flwr_robustcomp.clients.label_attack import FlippedLabels, LabelAttack, Poison, RandomLabels, ShiftedLabels
from flwr_robustcomp.clients.old_api import old_client
from flwr_robustcomp.clients.scaling import Scaling, SignFlip
from flwr_robustcomp.clients.schedule import ALWAYS, Schedule
from flwr_robustcomp.clients.training_data import poison_of, training_images, training_labels
from flwr_robustcomp.clients.update_attack import UpdateAttack
from flwr_robustcomp.clients.zero import Zero

__all__ = [
    "ALWAYS",
    "ATTACK_MODS",
    "Attack",
    "BackdoorTrigger",
    "ClientMomentum",
    "CompressionMod",
    "FlippedLabels",
    "GaussianNoise",
    "Kind",
    "LabelAttack",
    "Poison",
    "RandomLabels",
    "Scaling",
    "Schedule",
    "ShiftedLabels",
    "SignFlip",
    "UpdateAttack",
    "Zero",
    "old_client",
    "poison_of",
    "training_images",
    "training_labels",
]

ATTACK_MODS: dict[str, type[UpdateAttack] | type[LabelAttack]] = {
    "backdoor": BackdoorTrigger,
    "flipped-labels": FlippedLabels,
    "gaussian-noise": GaussianNoise,
    "random-labels": RandomLabels,
    "scaling": Scaling,
    "shifted-labels": ShiftedLabels,
    "sign-flip": SignFlip,
    "zero": Zero,
}
"""Every Byzantine mod by the name that scenarios use."""
