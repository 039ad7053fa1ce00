"""Drop what is longer than any honest vector can be expected to be, before anything else looks at it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, kept_rows
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["FACTOR", "Length", "overlong"]

FACTOR = 100.0
"""How many times the median norm a vector may be long: docs/filters.md has the largest ratio that honest nodes reached."""


@dataclass(frozen=True)
class Length(Filter):
    """Drop the vectors longer than ``factor`` times the median norm; needs no inner products.

    Parameters
    ----------
    trim : int or float
        How many Byzantine vectors to expect. It matters where the median norm is zero: then ``factor`` times the largest norm
        but for ``trim`` is the bound.
    factor : float
        Above 1.

    Notes
    -----
    While fewer than half of the vectors are Byzantine, the median norm is at most the largest honest one, R. So whatever passes
    is at most ``factor`` R long, and a convex combination of it as well. Unlike `Norm` it has no budget to spend: where no norm
    stands out by ``factor``, nothing is dropped. Colluders can lower the median to the honest quantile at
    (1/2 - alpha) / (1 - alpha), and not below. What is dropped tells by its rank alone, never by how long it is. The
    construction is this project's; thresholds relative to a median norm are folklore (Sun et al. 2019, section 4).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Length, Vectors, chain
    >>> chain([Length()], Vectors.of_gram(np.diag([1.0, 4.0, 1.0, 1e60]))).round(3).tolist()
    [0.333, 0.333, 0.333, 0.0]
    """

    factor: float = FACTOR

    name: ClassVar[str] = "length"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 < self.factor < math.inf, "factor", self.factor, "above 1 and finite")

    def least(self, trim: int) -> int:
        """Return 1: whoever is alone sets the standard."""
        return 1

    def left(self, m: int, trim: int) -> int:
        """Return ceil(m/2): what is at most the median stays."""
        return (m + 1) // 2

    def longest(self, m: int, trim: int) -> float:
        """Return ``factor``; with half of the vectors or more Byzantine there is no promise."""
        return self.factor if 2 * trim < m else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Keep the others."""
        return kept_rows(np.flatnonzero(~overlong(vectors.norms, trim, self.factor)), len(vectors))


def overlong(norms: Matrix, trim: int, factor: float = FACTOR) -> npt.NDArray[np.bool_]:
    """Return which of m vectors are longer than ``factor`` times the median of all norms, shape (m,).

    Parameters
    ----------
    norms : numpy.ndarray, shape (m,), float64
        l2 norms, finite.
    trim : int
        As for `Length`.
    factor : float
        As for `Length`.
    """
    if not norms.size:
        return np.zeros(0, np.bool_)
    ordered = np.sort(norms)
    # The lower median: of an even number the upper one can be a colluder's while b = m/2 - 1 are Byzantine and all are long.
    standard = ordered[(norms.size - 1) // 2] or ordered[max(0, norms.size - 1 - trim)]
    with np.errstate(over="ignore"):
        return np.asarray(norms > factor * standard)
