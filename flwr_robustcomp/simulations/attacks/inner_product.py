"""Inner-product manipulation: a mean that points the wrong way (Xie, Koyejo and Gupta 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["InnerProduct"]


@dataclass(frozen=True)
class InnerProduct(Collusion):
    """Send -epsilon * mean (Xie et al. 2020, "Fall of empires").

    Parameters
    ----------
    epsilon : float
        Positive. The mean of all m has the inner product (h - epsilon b) / m ||mean||^2 with the honest one: negative, and the
        step ascends, for epsilon > h / b. Smaller ones slow down, and survive norm thresholds.
    """

    epsilon: float = 0.5

    name: ClassVar[str] = "inner-product"

    def __post_init__(self) -> None:
        require(self.epsilon > 0 and math.isfinite(self.epsilon), "epsilon", self.epsilon, "positive and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return -epsilon * mean."""
        return -self.epsilon * seen.mean, state
