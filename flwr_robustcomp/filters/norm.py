"""Keep the vectors of smallest norm: the paper's own filter (Algorithms 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.filters.base import Filter, kept_rows
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Norm", "shortest"]


def shortest(norms: npt.ArrayLike, count: int) -> npt.NDArray[np.intp]:
    """Return the places of the ``count`` smallest norms, ascending; of equal norms the first ones.

    Parameters
    ----------
    norms : array_like of float, shape (m,)
        Finite.
    count : int
        From 0 to m.

    Examples
    --------
    >>> shortest([3.0, 1.0, 2.0, 1.0], 2)
    array([1, 3])
    """
    return np.sort(np.argsort(norms, kind="stable")[:count])


@dataclass(frozen=True)
class Norm(Filter):
    """Drop the ``trim`` vectors of largest l2 norm; needs no inner products.

    Notes
    -----
    Ghosh et al. 2020, Algorithms 1 and 2, line 6. Equal norms are kept in the order given. It bounds what is kept by the
    largest honest norm, and nothing else: a vector of honest length in a harmful direction passes.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Norm, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([Norm(trim=1)], Vectors.of_gram(x @ x.T))
    array([0.25, 0.25, 0.25, 0.25, 0.  ])
    """

    name: ClassVar[str] = "norm"

    def left(self, m: int, trim: int) -> int:
        """Return m - t."""
        return m - trim

    def longest(self, m: int, trim: int) -> float:
        """Return 1: of the m - t shortest, the longest is no longer than the longest of any m - t vectors."""
        return 1.0

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Keep the smallest."""
        return kept_rows(shortest(vectors.norms, len(vectors) - trim), len(vectors))
