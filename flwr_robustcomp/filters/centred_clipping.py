"""Clip every vector's distance from a centre, and move the centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, Matrix, Vectors
from flwr_robustcomp.filters.geometric_median import distances_to

__all__ = ["CentredClipping"]


@dataclass(frozen=True)
class CentredClipping(Filter):
    """v <- v + (1/m) sum_i (x_i - v) min(1, tau / ||x_i - v||), from v = 0.

    Parameters
    ----------
    iterations : int
        Steps, at least 1.
    radius : float, optional
        tau; by default the largest distance to v but for those of the ``trim`` farthest, anew in each step.

    Notes
    -----
    Karimireddy et al. 2021, section 4. They start from the last round's aggregate; a filter keeps no state, and zero, where the
    first of several steps lands the centre among the vectors, does as well. v stays a combination of the vectors, so inner
    products are all it needs.
    """

    iterations: int = 5
    radius: float | None = None

    name: ClassVar[str] = "centred-clipping"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.iterations, int) and self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.radius is None or self.radius > 0, "radius", self.radius, "positive or None")

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Iterate."""
        m, gram = len(vectors), vectors.gram
        centre = np.zeros(m)  # coefficients of v
        for _ in range(self.iterations):
            distances = distances_to(gram, centre)
            radius = np.sort(distances)[m - trim - 1] if self.radius is None else self.radius
            clip = np.minimum(1.0, radius / np.maximum(distances, np.finfo(np.float64).tiny))
            centre = centre * (1.0 - clip.mean()) + clip / m
        return centre[None, :]
