"""Clip every vector's distance from a centre, and move the centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, shortening
from flwr_robustcomp.filters.geometric_median import distances_to
from flwr_robustcomp.filters.vectors import Matrix, Vectors

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

    *Reach* without a fixed radius, alpha = t/m: tau is at most the largest honest distance to v, at most R + ||v||. An honest
    x_i is clipped to the segment between v and x_i, and any other to at most ||v|| + tau, so that ||v'|| <= (1 - alpha)
    max(||v||, R) + alpha (2 ||v|| + R). From v = 0 the first step has ||v|| <= R, and after n of them ||v|| + R <=
    2 R (1 + alpha)^(n - 1).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import CentredClipping, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([CentredClipping(trim=1)], Vectors.of_gram(x @ x.T)).round(2)
    array([0.25, 0.25, 0.25, 0.25, 0.  ])
    """

    iterations: int = 5
    radius: float | None = None

    name: ClassVar[str] = "centred-clipping"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.iterations, int) and self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.radius is None or self.radius > 0, "radius", self.radius, "positive or None")

    def left(self, m: int, trim: int) -> int:
        """Return 1."""
        return 1

    def reach(self, m: int, trim: int) -> float:
        """Return 2 (1 + t/m)^(n - 1) - 1 after n steps; infinite for a fixed radius, which has nothing to do with R."""
        return math.inf if self.radius is not None else 2 * (1 + trim / m) ** (self.iterations - 1) - 1

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Iterate."""
        m, gram = len(vectors), vectors.gram
        centre = np.zeros(m)  # coefficients of v
        for _ in range(self.iterations):
            distances = distances_to(gram, centre)
            radius = np.sort(distances)[m - trim - 1] if self.radius is None else self.radius
            clip = shortening(distances, float(radius))
            centre = centre * (1.0 - clip.mean()) + clip / m
        return centre[None, :]
