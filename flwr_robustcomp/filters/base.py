"""The interface of a filter: from the inner products of m vectors to linear combinations of them."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import require

__all__ = ["Filter", "Matrix", "Vectors", "chain", "check_trim", "kept_rows", "trim_of"]

Matrix = npt.NDArray[np.float64]


class Vectors:
    """m vectors of R^d as a filter sees them: by their inner products alone, never by their coordinates.

    Parameters
    ----------
    norms : numpy.ndarray, shape (m,), float64
        l2 norms, finite.
    gram : callable
        Returns the inner products, shape (m, m), float64, symmetric; called once, and only if a filter asks.
    """

    def __init__(self, norms: Matrix, gram: Callable[[], Matrix]) -> None:
        self.norms = norms
        self._gram = gram

    @classmethod
    def of_gram(cls, gram: Matrix) -> Vectors:
        """Return the vectors of a Gram matrix, shape (m, m)."""
        return cls(np.sqrt(np.maximum(np.diag(gram), 0.0)), lambda: gram)

    def __len__(self) -> int:
        return self.norms.size

    @functools.cached_property
    def gram(self) -> Matrix:
        """Inner products, shape (m, m)."""
        return self._gram()

    @functools.cached_property
    def squared_distances(self) -> Matrix:
        """||x_i - x_j||^2 = G_ii + G_jj - 2 G_ij, shape (m, m), never below zero."""
        squares = np.diag(self.gram)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * self.gram, 0.0)
        np.fill_diagonal(distances, 0.0)
        return distances

    def subset(self, kept: npt.NDArray[np.intp]) -> Vectors:
        """Return some of the vectors; the Gram matrix stays uncomputed if it was."""
        return Vectors(self.norms[kept], lambda: self.gram[np.ix_(kept, kept)])

    def combined(self, coefficients: Matrix) -> Vectors:
        """Return k linear combinations of the vectors, coefficients of shape (k, m): their Gram matrix is C G C^T."""
        return Vectors.of_gram(coefficients @ self.gram @ coefficients.T)


@dataclass(frozen=True)
class Filter(ABC):
    """A robust aggregation rule that needs inner products only; immutable, and free of any state.

    A filter maps m vectors to k linear combinations of them: n of the m vectors as they are (a filter in the strict sense),
    m mixtures (nearest-neighbour mixing), or a single weighted sum (the geometric median). What it returns is the matrix
    of coefficients, so that filters chain by matrix products, and the server's one sum over packed payloads
    computes the outcome.

    Parameters
    ----------
    trim : int or float
        How many Byzantine vectors to expect: a count, or a fraction in [0, 0.5) of the vectors, rounded up.
    """

    trim: int | float = 0

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_trim(self.trim)

    def least(self, trim: int) -> int:
        """Return the smallest number of vectors that the filter works with when it expects ``trim`` Byzantine ones."""
        return 2 * trim + 1

    @abstractmethod
    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Return the coefficients, shape (k, m), of what the filter makes of the vectors.

        Parameters
        ----------
        vectors : Vectors
            m >= `least` (trim) of them.
        trim : int
            How many Byzantine vectors to expect among them.
        """


def check_trim(trim: int | float) -> None:
    """Raise unless ``trim`` is a count or a fraction below one half."""
    allowed = "a count (integer >= 0) or a fraction in [0, 0.5)"
    require(isinstance(trim, int | float) and not isinstance(trim, bool), "trim", trim, allowed)
    require(trim >= 0 if isinstance(trim, int) else 0.0 <= trim < 0.5, "trim", trim, allowed)


def trim_of(trim: int | float, m: int) -> int:
    """Return how many of m vectors that is; a fraction is rounded up, with room for the rounding of 0.11 * 200."""
    return trim if isinstance(trim, int) else math.ceil(trim * m - 1e-9)


def kept_rows(kept: npt.NDArray[np.intp], m: int) -> Matrix:
    """Return the coefficients that keep some of m vectors as they are, shape (len(kept), m)."""
    rows = np.zeros((kept.size, m))
    rows[np.arange(kept.size), kept] = 1.0
    return rows


def chain(filters: Sequence[Filter], vectors: Vectors) -> Matrix:
    """Apply filters one after the other; the outcome is the mean of what the last one leaves.

    Parameters
    ----------
    filters : sequence of Filter
        At least one; fractions are of the m vectors of the start.
    vectors : Vectors
        m of them.

    Returns
    -------
    numpy.ndarray, shape (m,), float64
        Coefficients of the vectors in the aggregate; zero for those that a filter dropped.

    Raises
    ------
    ConfigurationError
        If a filter is left with fewer vectors than it needs.
    """
    m = len(vectors)
    total: Matrix | None = None
    for one in filters:
        trim, left = trim_of(one.trim, m), len(vectors)
        require(left >= one.least(trim), f"vectors for {one.name!r} with trim {trim}", left, f"at least {one.least(trim)}")
        step = one.combine(vectors, trim)
        total = step if total is None else step @ total
        if one is not filters[-1]:
            # Rows of the identity pick vectors, and need no Gram matrix of their own.
            picked = _picked(step)
            vectors = vectors.combined(step) if picked is None else vectors.subset(picked)
    if total is None:
        return np.full(m, 1.0 / m)
    return np.asarray(total.mean(axis=0))


def _picked(step: Matrix) -> npt.NDArray[np.intp] | None:
    """Return which vectors a step keeps as they are, None if it mixes them."""
    if np.count_nonzero(step) != len(step) or not bool((step.max(axis=1) == 1.0).all()):
        return None
    return np.asarray(step.argmax(axis=1))
