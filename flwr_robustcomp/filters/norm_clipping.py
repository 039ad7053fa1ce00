"""Shorten what is longer than the honest can be expected to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, shortening
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["NormClipping"]


@dataclass(frozen=True)
class NormClipping(Filter):
    """Scale every vector down to a radius.

    Parameters
    ----------
    trim : int or float
        How many of the largest norms set no standard: without ``radius`` it is the largest of the others.
    radius : float, optional
        A fixed radius instead.
    quantile : float, optional
        q in (0, 1], instead of both: the radius is the smallest norm that a share q of the vectors do not exceed. 0.5 is the
        median, of an even number the lower one.

    Notes
    -----
    Sun et al. 2019, section 4 ("norm thresholding of updates"). Nothing is dropped, so there is nothing to win by staying just
    under a threshold but the honest length.

    *Reach.* Of any t + 1 vectors one is honest. So the norm of rank m - t in ascending order, and every smaller one, is at most
    R. A quantile has the rank ceil(q m), which is at most m - t for q <= 1 - t/m.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import NormClipping, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([NormClipping(trim=1)], Vectors.of_gram(x @ x.T)).round(3)
    array([0.2  , 0.2  , 0.2  , 0.2  , 0.024])
    """

    radius: float | None = None
    quantile: float | None = None

    name: ClassVar[str] = "norm-clipping"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.radius is None or self.radius > 0, "radius", self.radius, "positive or None")
        require(self.quantile is None or 0 < self.quantile <= 1, "quantile", self.quantile, "in (0, 1], or None")
        require(self.radius is None or self.quantile is None, "quantile", self.quantile, "None where a radius is given")

    def longest(self, m: int, trim: int) -> float:
        """Return 1: the radius is at most R; infinite for a fixed radius, and for a quantile above 1 - t/m."""
        return 1.0 if self.radius is None and self._rank(m, trim) <= m - trim else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Scale each vector by min(1, radius / norm)."""
        rank = self._rank(len(vectors), trim)
        radius = np.sort(vectors.norms)[rank - 1] if self.radius is None else self.radius
        return np.diag(shortening(vectors.norms, float(radius)))

    def _rank(self, m: int, trim: int) -> int:
        """Return which norm in ascending order is the radius, from 1; with room for the rounding of 0.55 * 100."""
        return m - trim if self.quantile is None else math.ceil(self.quantile * m - 1e-9)
