"""Keep the vectors whose neighbours are near."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.filters.base import Filter, kept_rows
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["MultiKrum"]


@dataclass(frozen=True)
class MultiKrum(Filter):
    """Keep the m - f vectors of smallest Krum score, the summed squared distance to the m - f - 2 nearest others.

    Notes
    -----
    Blanchard et al. 2017, sections 3 and 6, with f = ``trim``; the guarantee asks for m >= 2 f + 3. Distances follow from inner
    products.

    *Reach.* An honest vector has at least m - f - 1 honest others within 2 R, so its score is at most S = (m - f - 2) 4 R^2,
    and so are the m - f smallest scores. A Byzantine vector among these has at least m - 2 f - 1 honest ones among its nearest
    m - f - 2, the nearest of them within sqrt(S / (m - 2 f - 1)).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import MultiKrum, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([MultiKrum(trim=1)], Vectors.of_gram(x @ x.T))
    array([0.25, 0.25, 0.25, 0.25, 0.  ])
    """

    name: ClassVar[str] = "multi-krum"

    def least(self, trim: int) -> int:
        """Return 2 f + 3."""
        return 2 * trim + 3

    def left(self, m: int, trim: int) -> int:
        """Return m - f."""
        return m - trim

    def longest(self, m: int, trim: int) -> float:
        """Return 1 + 2 sqrt((m - f - 2) / (m - 2 f - 1))."""
        return 1 + 2 * math.sqrt((m - trim - 2) / (m - 2 * trim - 1))

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Keep the m - f best."""
        m = len(vectors)
        nearest = np.sort(vectors.squared_distances, axis=1)[:, 1 : m - trim - 1]  # (m, m - f - 2), without itself
        order = np.argsort(nearest.sum(axis=1), kind="stable")
        return kept_rows(np.sort(order[: m - trim]), m)
