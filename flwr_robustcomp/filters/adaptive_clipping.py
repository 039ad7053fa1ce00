"""Shorten as many vectors as the number of expected liars calls for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.filters.base import Filter, shortening
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["AdaptiveClipping"]


@dataclass(frozen=True)
class AdaptiveClipping(Filter):
    """Scale the k = floor(2 (t/m) (m - t)) longest of m vectors down to the norm of the next longest.

    Parameters
    ----------
    trim : int or float
        t, the number of Byzantine vectors to expect.

    Notes
    -----
    Allouah et al. 2025 (ARC, adaptive robust clipping). `NormClipping` shortens the t longest; this one shortens almost twice
    as many where t is small beside m. It drops nothing. A rule that is (t, kappa)-robust is (t, kappa + 2 t / (m - 2 t))-robust
    behind it, as the paper shows: put one there.

    *Reach.* For t < m/2 the factor 2 (m - t) / m exceeds 1, so that k >= t. At least one of the k + 1 longest is then honest,
    and the shortest of these, whose norm is the radius, is at most R long.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import AdaptiveClipping, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([AdaptiveClipping(trim=1)], Vectors.of_gram(x @ x.T)).round(3)
    array([0.2  , 0.2  , 0.2  , 0.2  , 0.024])
    """

    name: ClassVar[str] = "adaptive-clipping"

    def longest(self, m: int, trim: int) -> float:
        """Return 1: the radius is at most R; with half of the vectors or more Byzantine there is no promise."""
        return 1.0 if 2 * trim < m else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Scale each vector by min(1, radius / norm)."""
        m = len(vectors)
        clipped = 2 * trim * (m - trim) // m
        return np.diag(shortening(vectors.norms, float(np.sort(vectors.norms)[m - clipped - 1])))
