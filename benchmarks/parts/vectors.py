"""Vectors of which a filter may ask everything, from their coordinates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.filters import Beside, Root, Vectors
from flwr_robustcomp.filters.vectors import signs_of

__all__ = ["known"]

Matrix = npt.NDArray[np.float64]


def known(rows: Matrix, root: Matrix | None = None, gram: Matrix | None = None) -> Vectors:
    """Return vectors, shape (m, d), and all that is to be known of them.

    Parameters
    ----------
    rows : numpy.ndarray, shape (m, d)
        The vectors.
    root : numpy.ndarray, shape (d,), optional
        The server's own; by default their mean. The loss of a mixture is half its squared distance to it.
    gram : numpy.ndarray, shape (m, m), optional
        Their inner products, where they are to be rounded otherwise.
    """
    own = np.asarray(rows.mean(axis=0)) if root is None else root

    def losses(mixing: Matrix) -> Matrix:
        return np.asarray(np.square(mixing @ rows - own).sum(axis=1) / 2)

    products = rows @ rows.T if gram is None else gram
    beside = Beside(lambda: signs_of(rows), lambda: products, lambda: Root(float(np.linalg.norm(own)), rows @ own), losses)
    return Vectors.of_gram(products, beside)
