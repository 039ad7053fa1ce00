"""Many small groups, each with a direction of its own, and a bias that all of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Seen
from flwr_robustcomp.simulations.attacks.lengths import against, honest_length, orthonormal
from flwr_robustcomp.simulations.attacks.unseen import Unseen, largest_unseen

__all__ = ["Cliques", "shared_bias"]


@dataclass(frozen=True)
class Cliques(Unseen):
    """Add to each honest vector the direction of a small clique, and a bias against the mean that stands out no farther.

    Parameters
    ----------
    size : int
        Colluders in a clique, at least 1; the last clique may be smaller. No more than b count.
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    With N the median honest norm, u = -mu / ||mu|| and a_1, a_2, ... orthonormal, orthogonal to mu and drawn anew in each
    round, colluder j of clique k sends

        x_j + s N (a_k + beta u),    beta^2 = q (m - q) / (b (m - b)),    q = size.

    About the mean of all m vectors a clique has the scatter q (1 - q/m) (s N)^2 along a_k, and all b have as much along u: no
    direction of the attack stands out before the others, and a filter that finds one clique drops q vectors for it. The
    orthogonal part hides the shared one from filters on directions: beside it the cosine of two colluders of different cliques
    grows by about beta^2 / (1 + beta^2) at most. s is the largest for which no colluder is dropped. `Spread` divides the bias
    itself; here all of it stays common. The construction is this project's.
    """

    size: int = 2
    name: ClassVar[str] = "cliques"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size >= 1, "size", self.size, "at least 1")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the scale of this round, from which the next search starts."""
        b, size = seen.byzantine, min(self.size, seen.byzantine)
        axes = orthonormal(seen, math.ceil(b / size))
        pushes = honest_length(seen) * (axes[torch.arange(b) // size] + shared_bias(seen.m, b, size) * against(seen))  # (b, d)
        if not pushes.any():
            return seen.own, state
        chain = self.chain(seen)
        return largest_unseen(seen, lambda s: seen.own + s * pushes, chain, state)


def shared_bias(m: int, byzantine: int, size: int) -> float:
    """Return beta: a bias of b of m vectors has then the scatter of a direction that ``size`` of them share."""
    return math.sqrt(size * (m - size) / (byzantine * (m - byzantine)))
