"""Pairs of huge opposite vectors, of whose mean only a push is left."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import against, carried, honest_length, orthonormal

__all__ = ["CancellingPairs"]


@dataclass(frozen=True)
class CancellingPairs(Collusion):
    """Send p + a and p - a in pairs, each pair with a long axis of its own, so that the mean of all pairs is the push p.

    Parameters
    ----------
    length : float
        Of the axes, in median honest norms; at most what the dtype carries.
    push : float
        Of p, in median honest norms.

    Notes
    -----
    With N the median honest norm and u = -mu / ||mu||, the pairs i = 1, ..., floor(b/2) send push N u +- length N a_i, the a_i
    drawn anew in each round, orthogonal to each other and to mu; an odd colluder sends push N u. Two of different pairs have a
    cosine of push^2 / (push^2 + length^2): a long axis hides what they have in common, and in the scatter the push is one of
    floor(b/2) + 1 directions and not the leading one. Rules that drop one of a pair give its axis to the other, which is what
    huge lengths aim at: clipping, medians and budgets that end in the middle of a pair. Lengths near 1 pass norm thresholds and
    are the better disguise. A compressor of signs turns the axis into dither: Q(p + a) + Q(p - a) is zero but where |p_i| >
    |a_i|, and there it has the sign of p. The construction is this project's.
    """

    length: float = 1e3
    push: float = 1.0

    name: ClassVar[str] = "cancelling-pairs"

    def __post_init__(self) -> None:
        require(0 < self.length < math.inf, "length", self.length, "positive and finite")
        require(0 < self.push < math.inf, "push", self.push, "positive and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, pair by pair."""
        n, b, dtype = honest_length(seen), seen.byzantine, seen.honest.dtype
        axes = orthonormal(seen, b // 2).repeat_interleave(2, dim=0) * carried(self.length * n, dtype)  # (2 (b // 2), d)
        axes[1::2] *= -1
        rows = (against(seen) * carried(self.push * n, dtype)).repeat(b, 1)
        rows[: len(axes)] += axes
        return rows, state
