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

    Notes
    -----
    Sun et al. 2019, section 4 ("norm thresholding of updates"). Nothing is dropped, so there is nothing to win by staying just
    under a threshold but the honest length.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import NormClipping, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([NormClipping(trim=1)], Vectors.of_gram(x @ x.T)).round(3)
    array([0.2  , 0.2  , 0.2  , 0.2  , 0.024])
    """

    radius: float | None = None

    name: ClassVar[str] = "norm-clipping"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.radius is None or self.radius > 0, "radius", self.radius, "positive or None")

    def longest(self, m: int, trim: int) -> float:
        """Return 1: the radius is at most R; a fixed one has nothing to do with R."""
        return 1.0 if self.radius is None else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Scale each vector by min(1, radius / norm)."""
        radius = np.sort(vectors.norms)[len(vectors) - trim - 1] if self.radius is None else self.radius
        return np.diag(shortening(vectors.norms, float(radius)))
