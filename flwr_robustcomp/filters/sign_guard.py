"""Keep vectors of plausible length whose shares of signs are those of most, and shorten them to the median norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, kept_rows, shortening
from flwr_robustcomp.filters.mean_shift import bandwidth_of, mean_shift
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["SignGuard"]

_RESOLUTION = 1e-12
"""Shares of signs that differ by less are the same: one coordinate of a model is more."""


@dataclass(frozen=True)
class SignGuard(Filter):
    """Keep the largest cluster by shares of signs, as far as norms are near the median, and shorten to the median.

    Parameters
    ----------
    trim : int or float
        Not used: the majority decides. What is promised is promised for so many Byzantine vectors.
    lower, upper : float
        Norms from ``lower`` to ``upper`` times the median are plausible, 0 <= lower <= 1 <= upper.

    Notes
    -----
    Xu et al. 2022 (SignGuard): norms within [0.1, 3] of the median; mean shift over the shares of negative, zero
    and positive entries, of which the largest cluster is trusted; the mean of what is in both, shortened to the median norm.

    *What differs.* The paper counts in a random part of the coordinates, because it has dense vectors; packed signs are all
    counted. The paper leaves the window of the mean shift open: here it is the distance within which half of the points lie, on
    average, and every point belongs to a cluster. Of an even number of norms the median is the lower one. Where no vector is in
    both sets, those of plausible norm are kept: the vector of median norm is one of them.

    Counts are of the model's own coordinates. Those of a rotated basis say nothing, so payloads of rotated compressors are
    decoded for it, one at a time. Behind a filter that mixes vectors it is refused.

    *Reach.* While fewer than half of the vectors are Byzantine, an honest one is at least as long as the lower median. So
    nothing it returns is longer than R. Of directions it promises nothing: whoever has the honest shares of signs passes.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import SignGuard, Vectors, chain
    >>> x = np.array([[1.0, -2.0, 1.0], [1.0, 2.0, -1.0], [1.0, -1.0, 1.0], [-1.0, -2.0, -1.0], [90.0, -90.0, 90.0]])
    >>> chain([SignGuard()], Vectors.of_rows(x)).round(2)
    array([0.33, 0.33, 0.33, 0.  , 0.  ])
    """

    lower: float = 0.1
    upper: float = 3.0

    name: ClassVar[str] = "sign-guard"
    looks_at: ClassVar[tuple[str, ...]] = ("signs",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.lower <= 1, "lower", self.lower, "in [0, 1]")
        require(1 <= self.upper < math.inf, "upper", self.upper, "at least 1 and finite")

    def left(self, m: int, trim: int) -> int:
        """Return 1."""
        return 1

    def longest(self, m: int, trim: int) -> float:
        """Return 1: all are shortened to the median; with half of the vectors or more Byzantine there is no promise."""
        return 1.0 if 2 * trim < m else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Keep what both sets have, and shorten."""
        m = len(vectors)
        median = float(np.sort(vectors.norms)[(m - 1) // 2])
        plausible = (vectors.norms >= self.lower * median) & (vectors.norms <= self.upper * median)
        trusted = plausible & _largest_cluster(vectors.signs)
        kept = np.flatnonzero(trusted if trusted.any() else plausible)
        return kept_rows(kept, m) * shortening(vectors.norms, median)


def _largest_cluster(shares: Matrix) -> npt.NDArray[np.bool_]:
    """Return which points are in the largest cluster, shape (m,); of equally large ones that of the densest peak."""
    clusters = mean_shift(shares, bandwidth_of(shares) + _RESOLUTION)
    return np.asarray(clusters == np.bincount(clusters).argmax())
