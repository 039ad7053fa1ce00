"""What a filter sees of m vectors: norms, inner products, and what else the server knows of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import ConfigurationError

__all__ = ["Beside", "Matrix", "Root", "Vectors", "signs_of"]

Matrix = npt.NDArray[np.float64]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Root:
    """What the server's own update, from a clean sample, has to do with m vectors.

    Attributes
    ----------
    norm : float
        Its l2 norm.
    products : numpy.ndarray, shape (m,), float64
        Its inner products with the vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Root
    >>> x, own = np.array([[1.0, 0.0], [-2.0, 0.0]]), np.array([3.0, 4.0])
    >>> Root(float(np.linalg.norm(own)), x @ own)
    Root(norm=5.0, products=array([ 3., -6.]))
    """

    norm: float
    products: Matrix


@dataclass(frozen=True)
class Beside:
    """What a filter may ask for beside inner products; each is computed once, and only if a filter asks.

    Attributes
    ----------
    signs : callable or None
        Returns the shares of the coordinates that are negative, zero and positive, shape (m, 3), float64.
    history : callable or None
        Returns the inner products of the fading means of each node's updates over the rounds, shape (m, m), float64.
    root : callable or None
        Returns the `Root`.
    losses : callable or None
        Returns the losses, shape (k,), float64, of the model less mixtures of the vectors, on the server's own clean sample; of
        coefficients of shape (k, m).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Beside, Vectors
    >>> x = np.array([[1.0, -1.0], [0.0, 2.0]])
    >>> beside = Beside(signs=lambda: np.array([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]))
    >>> Vectors.of_gram(x @ x.T, beside).signs[1]
    array([0. , 0.5, 0.5])
    """

    signs: Callable[[], Matrix] | None = None
    history: Callable[[], Matrix] | None = None
    root: Callable[[], Root] | None = None
    losses: Callable[[Matrix], Matrix] | None = None


class Vectors:
    """m vectors of R^d as a filter sees them: by their inner products, never by their coordinates.

    Parameters
    ----------
    norms : numpy.ndarray, shape (m,), float64
        l2 norms, finite.
    gram : callable
        Returns the inner products, shape (m, m), float64, symmetric; called once, and only if a filter asks.
    beside : Beside, optional
        What else is known of the vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Vectors
    >>> x = np.array([[3.0, 4.0], [0.0, 1.0]])
    >>> vectors = Vectors.of_gram(x @ x.T)
    >>> vectors.norms, vectors.squared_distances[0, 1]
    (array([5., 1.]), np.float64(18.0))
    """

    def __init__(self, norms: Matrix, gram: Callable[[], Matrix], beside: Beside | None = None) -> None:
        self.norms = norms
        self._gram = gram
        self._beside = beside or Beside()

    @classmethod
    def of_gram(cls, gram: Matrix, beside: Beside | None = None) -> Vectors:
        """Return the vectors of a Gram matrix, shape (m, m)."""
        return cls(np.sqrt(np.maximum(np.diag(gram), 0.0)), lambda: gram, beside)

    @classmethod
    def of_rows(cls, rows: Matrix) -> Vectors:
        """Return the vectors that are the rows of a matrix, shape (m, d), with their signs, and a past of this one round."""
        gram = rows @ rows.T
        return cls.of_gram(gram, Beside(signs=lambda: signs_of(rows), history=lambda: gram))

    def __len__(self) -> int:
        return self.norms.size

    @functools.cached_property
    def gram(self) -> Matrix:
        """Inner products, shape (m, m)."""
        return self._gram()

    @property
    def has_gram(self) -> bool:
        """Whether the inner products have been computed."""
        return "gram" in vars(self)

    @functools.cached_property
    def cosines(self) -> Matrix:
        """G_ij / (||x_i|| ||x_j||), shape (m, m), symmetric; zero for a zero vector, also with itself."""
        lengths = np.where(self.norms > 0, self.norms, 1.0)
        cosines = self.gram / lengths[:, None] / lengths
        return np.asarray((cosines + cosines.T) / 2)

    @functools.cached_property
    def squared_distances(self) -> Matrix:
        """||x_i - x_j||^2 = G_ii + G_jj - 2 G_ij, shape (m, m), never below zero."""
        squares = np.diag(self.gram)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * self.gram, 0.0)
        np.fill_diagonal(distances, 0.0)
        return distances

    @functools.cached_property
    def signs(self) -> Matrix:
        """Shares of the coordinates that are negative, zero and positive, shape (m, 3).

        Raises
        ------
        ConfigurationError
            If nobody knows them: of vectors that a filter has mixed, or of a Gram matrix alone. So do the next two.
        """
        return _known(self._beside.signs, "signs")()

    @functools.cached_property
    def history(self) -> Matrix:
        """Inner products of the fading means of each node's updates over the rounds, shape (m, m)."""
        return _known(self._beside.history, "history")()

    @functools.cached_property
    def root(self) -> Root:
        """What the server's own update has to do with the vectors."""
        return _known(self._beside.root, "root")()

    @functools.cached_property
    def losses(self) -> Matrix:
        """Loss of the model less each vector on the server's own sample, shape (m,)."""
        of = self._beside.losses
        return _known(of and (lambda: of(np.eye(len(self)))), "losses")()

    def subset(self, kept: npt.NDArray[np.intp]) -> Vectors:
        """Return some of the vectors; the Gram matrix stays uncomputed if it was."""
        return Vectors(self.norms[kept], lambda: self.gram[np.ix_(kept, kept)], self._picked(kept, np.ones(kept.size)))

    def combined(self, coefficients: Matrix) -> Vectors:
        """Return k linear combinations of the vectors, coefficients of shape (k, m): their Gram matrix is C G C^T."""
        gram = coefficients @ self.gram @ coefficients.T
        if bool((np.count_nonzero(coefficients, axis=1) <= 1).all()) and bool((coefficients >= 0).all()):
            picked = np.asarray(coefficients.argmax(axis=1))
            beside = self._picked(picked, coefficients[np.arange(picked.size), picked])
        else:
            beside = self._mixed(coefficients)
        # Two products round differently; the mean with the transpose is symmetric, as promised.
        return Vectors.of_gram((gram + gram.T) / 2, beside)

    def _picked(self, picked: npt.NDArray[np.intp], scales: Matrix) -> Beside:
        """Return what is known of scaled vectors, one for each index; the signs and histories of a vector stay its own."""
        own, chosen = self._beside, np.eye(len(self))[picked] * scales[:, None]  # (k, m)
        return Beside(
            signs=own.signs and (lambda: self.signs[picked]),
            history=own.history and (lambda: self.history[np.ix_(picked, picked)]),
            root=own.root and (lambda: replace(self.root, products=self.root.products[picked] * scales)),
            losses=_composed(own.losses, chosen),
        )

    def _mixed(self, coefficients: Matrix) -> Beside:
        """Return what is known of mixtures: sums are linear, signs are not."""
        own = self._beside
        return Beside(
            history=own.history and (lambda: coefficients @ self.history @ coefficients.T),
            root=own.root and (lambda: replace(self.root, products=coefficients @ self.root.products)),
            losses=_composed(own.losses, coefficients),
        )


def signs_of(rows: Matrix) -> Matrix:
    """Return the shares of the coordinates that are negative, zero and positive, shape (m, 3), of rows, shape (m, d)."""
    return np.stack([(rows < 0).mean(axis=1), (rows == 0).mean(axis=1), (rows > 0).mean(axis=1)], axis=1)


def _composed(losses: Callable[[Matrix], Matrix] | None, coefficients: Matrix) -> Callable[[Matrix], Matrix] | None:
    """Return the losses of mixtures of k mixtures, which have coefficients of shape (k, m)."""
    return losses and (lambda mixing: losses(mixing @ coefficients))


def _known(known: Callable[[], _T] | None, what: str) -> Callable[[], _T]:
    if known is None:
        raise ConfigurationError(f"{what} must be known where a filter looks at them, got vectors without")
    return known
