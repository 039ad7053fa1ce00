"""What a filter sees of m vectors: their norms and inner products."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Matrix", "Vectors"]

Matrix = npt.NDArray[np.float64]


class Vectors:
    """m vectors of R^d as a filter sees them: by their inner products alone, never by their coordinates.

    Parameters
    ----------
    norms : numpy.ndarray, shape (m,), float64
        l2 norms, finite.
    gram : callable
        Returns the inner products, shape (m, m), float64, symmetric; called once, and only if a filter asks.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Vectors
    >>> x = np.array([[3.0, 4.0], [0.0, 1.0]])
    >>> vectors = Vectors.of_gram(x @ x.T)
    >>> vectors.norms, vectors.squared_distances[0, 1]
    (array([5., 1.]), np.float64(18.0))
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
        gram = coefficients @ self.gram @ coefficients.T
        # Two products round differently; the mean with the transpose is symmetric, as promised.
        return Vectors.of_gram((gram + gram.T) / 2)
