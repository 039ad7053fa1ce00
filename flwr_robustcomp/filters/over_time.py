"""Let another filter look at what the nodes have sent over the rounds, and not at this round's updates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.spectral import Spectral
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["OverTime"]

_DEFAULT = Spectral()


@dataclass(frozen=True)
class OverTime(Filter):
    """Combine the round's vectors as another filter combines the histories of their nodes.

    Parameters
    ----------
    trim : int or float
        As for the other filter; it has none of its own.
    filter : Filter
        Which looks at inner products alone; `Spectral` by default. In names it stands behind a colon, as in
        ``"over-time:directions"``.

    Notes
    -----
    A history is the fading mean of what a node sent (`Beside.history`). Over r rounds independent noise shrinks by sqrt(r) and
    what colluders repeat does not, so that a direction stands out which no single round shows (Karimireddy et al. 2021, who
    have every client send its momentum; Allen-Zhu et al. 2021, who add up at the server). The unlikeness of honest nodes
    does not shrink either: it is repeated, too. So over time a filter also sees honest minorities more clearly.

    A filter that picks vectors picks nodes by their histories. The coefficients of one that mixes or shortens are those of the
    histories, and apply to the round's vectors.

    *Length.* It promises none, whatever the other filter does: a history says nothing of how long this round's vector is. Put
    a filter before it that bounds lengths, as in ``"norm-clipping+over-time:spectral"``. A filter that mixes can put a
    Byzantine vector of any length in the place of an honest one, so that `reach_of` then holds for what stands before alone.

    *The budget* is shared as the other filter shares it: what ``over-time:directions`` drops is taken off the trim of a
    `Spectral` after it.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Beside, OverTime, Spectral, Vectors, chain
    >>> x = np.eye(6)  # this round shows nothing
    >>> sums = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [0.9, 0.1], [-9.0, 0.0]])
    >>> vectors = Vectors.of_gram(x @ x.T, Beside(history=lambda: sums @ sums.T))
    >>> chain([Spectral(trim=1)], vectors).round(2), chain([OverTime(trim=1)], vectors)
    (array([0.17, 0.17, 0.17, 0.17, 0.17, 0.17]), array([0.2, 0.2, 0.2, 0.2, 0.2, 0. ]))
    """

    filter: Filter = _DEFAULT

    name: ClassVar[str] = "over-time"
    looks_at: ClassVar[tuple[str, ...]] = ("history",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.filter, Filter), "filter", self.filter, "a Filter")
        require(not self.filter.looks_at, "filter", self.filter.name, "one that looks at inner products alone")
        require(self.filter.trim == 0, "filter.trim", self.filter.trim, "left out: the trim is that of over-time")
        # Of the class for other filters; here the other filter decides.
        object.__setattr__(self, "spends", self.filter.spends)
        object.__setattr__(self, "shares", self.filter.shares)
        object.__setattr__(self, "honest_gain", 1.0 if self.filter.honest_gain == 1.0 else math.inf)

    def least(self, trim: int) -> int:
        """Return what the other filter needs."""
        return self.filter.least(trim)

    def left(self, m: int, trim: int) -> int:
        """Return what the other filter leaves."""
        return self.filter.left(m, trim)

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Let the other filter look at the histories."""
        return self.filter.combine(Vectors.of_gram(vectors.history), trim)
