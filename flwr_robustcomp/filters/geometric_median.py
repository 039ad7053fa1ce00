"""The point whose summed distance to all vectors is smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, Matrix, Vectors

__all__ = ["GeometricMedian", "distances_to"]


@dataclass(frozen=True)
class GeometricMedian(Filter):
    """The geometric median by smoothed Weiszfeld steps.

    Parameters
    ----------
    iterations : int
        Steps, at least 1.
    smoothing : float
        Distances below this share of the median distance to the mean count as that much, so that no weight is infinite.

    Notes
    -----
    Pillutla et al. 2022 (RFA), Algorithm 2. Every iterate z = sum_j w_j x_j has ||x_i - z||^2 = G_ii - 2 (G w)_i + w^T G w, so
    inner products are all it needs; a step sets w_i to 1 / max(nu, ||x_i - z||), normalised. ``trim`` is not used: the median
    withstands any minority.
    """

    iterations: int = 32
    smoothing: float = 1e-3

    name: ClassVar[str] = "geometric-median"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.iterations, int) and self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(0 < self.smoothing <= 1, "smoothing", self.smoothing, "in (0, 1]")

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Iterate from the mean."""
        m, gram = len(vectors), vectors.gram
        weights = np.full(m, 1.0 / m)
        floor = self.smoothing * float(np.median(distances_to(gram, weights)))
        if floor > 0:  # otherwise more than half of the vectors are the mean itself
            for _ in range(self.iterations):
                weights = 1.0 / np.maximum(distances_to(gram, weights), floor)
                weights /= weights.sum()
        return weights[None, :]


def distances_to(gram: Matrix, weights: Matrix) -> Matrix:
    """Return ||x_i - z|| for z = sum_j w_j x_j, shape (m,), from the Gram matrix, shape (m, m)."""
    projections = gram @ weights
    return np.sqrt(np.maximum(np.diag(gram) - 2 * projections + float(weights @ projections), 0.0))
