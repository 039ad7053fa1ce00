"""The point whose summed distance to all vectors is smallest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, shortening
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["GeometricMedian", "distances_to"]


@dataclass(frozen=True)
class GeometricMedian(Filter):
    """The geometric median by smoothed Weiszfeld steps.

    Parameters
    ----------
    iterations : int
        Steps, at least 1.
    smoothing : float
        Distances below nu, this share of the median distance to the start, count as nu, so that no weight is infinite.

    Notes
    -----
    Pillutla et al. 2022 (RFA), Algorithm 2. Every iterate z = sum_j w_j x_j has ||x_i - z||^2 = G_ii - 2 (G w)_i + w^T G w, so
    inner products are all it needs; a step sets w_i to 1 / max(nu, ||x_i - z||), normalised. ``trim`` is not used: the median
    withstands any minority.

    *The start* z_0 is the mean of the vectors after each was shortened to the median norm. A start at the mean, as in RFA, is
    wherever one long vector wants it, and so is nu: then every other distance counts as nu, and the outcome is near the mean.

    *Reach.* Let h of the m vectors be honest, b = m - h < h. The median norm is at most R, so ||z_0|| <= R, every honest
    vector is within 2 R of it, and nu <= 2 s R with s = ``smoothing``. A step never increases g(z) = sum_i phi(||x_i - z||),
    phi(r) = r from nu on and r^2 / (2 nu) + nu / 2 below, because it minimises a majorant of g. With Delta = ||z - z_0|| the
    honest terms have grown by at least h (Delta - 2 * 2 R - nu / 2), as r <= phi(r) <= r + nu / 2, and the others have shrunk
    by at most b Delta, as phi has a slope of at most 1. So Delta <= (4 + s) R h / (h - b), after any number of steps.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import GeometricMedian, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> np.abs(chain([GeometricMedian()], Vectors.of_gram(x @ x.T)) @ x - [1.0, 0.0]).max() < 0.1
    np.True_
    """

    iterations: int = 32
    smoothing: float = 1e-3

    name: ClassVar[str] = "geometric-median"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.iterations, int) and self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(0 < self.smoothing <= 1, "smoothing", self.smoothing, "in (0, 1]")

    def left(self, m: int, trim: int) -> int:
        """Return 1."""
        return 1

    def reach(self, m: int, trim: int) -> float:
        """Return 1 + (4 + smoothing) h / (h - b) with b = ``trim`` and h = m - b."""
        return 1 + (4 + self.smoothing) * (m - trim) / (m - 2 * trim) if 2 * trim < m else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Iterate from the mean of the shortened vectors."""
        m, gram = len(vectors), vectors.gram
        weights = shortening(vectors.norms, float(np.sort(vectors.norms)[(m - 1) // 2])) / m
        floor = self.smoothing * float(np.median(distances_to(gram, weights)))
        if floor > 0:  # otherwise at least half of the vectors are the start itself
            for _ in range(self.iterations):
                weights = 1.0 / np.maximum(distances_to(gram, weights), floor)
                weights /= weights.sum()
        return weights[None, :]


def distances_to(gram: Matrix, weights: Matrix) -> Matrix:
    """Return ||x_i - z|| for z = sum_j w_j x_j, shape (m,), from the Gram matrix, shape (m, m)."""
    projections = gram @ weights
    return np.sqrt(np.maximum(np.diag(gram) - 2 * projections + float(weights @ projections), 0.0))
