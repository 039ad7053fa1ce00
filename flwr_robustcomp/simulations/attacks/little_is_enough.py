"""A little is enough: a shift within the spread of the honest (Baruch, Baruch and Goldberg 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["LittleIsEnough", "largest_z"]


@dataclass(frozen=True)
class LittleIsEnough(Collusion):
    """Send mean - z * std, coordinate by coordinate (Baruch et al. 2019, Algorithm 3).

    Parameters
    ----------
    z : float, optional
        How many standard deviations; by default `largest_z` of the round's m and b.

    Notes
    -----
    Meant against medians and trimmed means, where s honest nodes beyond the crafted value make a majority with it. Against norm
    thresholding what counts is the norm: ||mean - z std|| stays near the honest norms for moderate z.
    """

    z: float | None = None

    name: ClassVar[str] = "little-is-enough"

    def __post_init__(self) -> None:
        require(self.z is None or (self.z >= 0 and math.isfinite(self.z)), "z", self.z, "non-negative and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return mean - z * std."""
        z = largest_z(seen.m, seen.byzantine) if self.z is None else self.z
        return seen.mean - z * seen.spread, state


def largest_z(m: int, b: int) -> float:
    """Return z_max of the paper's Algorithm 3.

    Parameters
    ----------
    m : int
        All nodes.
    b : int
        The Byzantine ones.

    Returns
    -------
    float
        Phi^-1((m - b - s) / (m - b)) with s = floor(m/2 + 1) - b, the honest nodes that b needs for a majority. Of m - b normal
        values, s are expected beyond it. Not below 0, where even the mean has the supporters; with b a majority of its
        own, s is taken as 1.
    """
    honest = m - b
    supporters = max(1, math.floor(m / 2 + 1) - b)
    if 2 * supporters >= honest:
        return 0.0
    return NormalDist().inv_cdf((honest - supporters) / honest)
