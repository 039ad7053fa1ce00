"""Rods on honest vectors: each colluder adds to what its own training and its residual gave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import against, carried, honest_length

__all__ = ["RodWithResiduals"]


@dataclass(frozen=True)
class RodWithResiduals(Collusion):
    """Add to each honest vector a push against the mean, and to some of them a ladder of rods.

    Parameters
    ----------
    length : float
        Of the longest rod, in median honest norms; at most what the dtype carries.
    push : float
        What all other colluders add, in median honest norms.
    rungs : int
        Rods k, at least 1; no more than half of the colluders.

    Notes
    -----
    x_j is what the node would have sent after honest training, its residual included where error feedback is on. With N the
    median honest norm and u = -mu / ||mu||, node j sends

        x_j + length^(1 - j/k) push^(j/k) N u  for j = 0, ..., k - 1,     x_j + push N u  for all others:

    the rungs fall geometrically from length to push. A server that drops the longest vector and looks again finds the next one.
    Every rung longer than push sqrt(b / (eps m)) shadows the push as in `Rod`, so that a rule which mends its tolerance once,
    after the first drop, is shadowed again; one that measures it on what is left pays k of its budget, for k colluders. The
    push is no longer than an honest vector and lies on one, so that norms and single cosines tell little. The construction is
    this project's.
    """

    length: float = 1e15
    push: float = 1.0
    rungs: int = 5

    name: ClassVar[str] = "rod-with-residuals"

    def __post_init__(self) -> None:
        require(0 < self.length < math.inf, "length", self.length, "positive and finite")
        require(0 < self.push < math.inf, "push", self.push, "positive and finite")
        require(self.rungs >= 1, "rungs", self.rungs, "at least 1")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, the longest first."""
        n, dtype = honest_length(seen), seen.honest.dtype
        k = max(1, min(self.rungs, seen.byzantine // 2))
        scales = [self.length ** (1 - j / k) * self.push ** (j / k) for j in range(k)] + [self.push] * (seen.byzantine - k)
        added = torch.tensor([carried(scale * n, dtype) for scale in scales], dtype=dtype)
        return seen.own + added[:, None] * against(seen), state
