"""The interface of a filter: from the inner products of m vectors to linear combinations of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Filter", "check_trim", "kept_rows", "shortening", "trim_of"]


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

    Attributes
    ----------
    name : str
        The name in the registry and in scenarios.
    honest_gain : float
        How many times R long the outcome can be in a place of an honest vector, R being the largest honest norm.
    spends : bool
        Whether what it drops is taken off the trim of the filters after it that share a budget.
    shares : bool
        Whether its trim is what earlier filters that spend have left of it.
    looks_at : tuple of str
        What it asks for beside norms and inner products: fields of `Beside`. A strategy that lacks one refuses the filter.
    trusts_root : bool
        Whether it judges by the server's own sample. Then its ``trim`` may be half of the vectors and more, and R, where it
        promises anything, is the largest norm of the honest updates and the root's.
    lengthens : bool
        Whether its rows may have sums above 1, so that no bound of an earlier filter holds for what it returns.

    Notes
    -----
    *What a filter promises* is `reach`: with at most ``trim`` Byzantine vectors, of any lengths and directions, the mean of
    what it returns is at most `reach` R long. So a vector that the filter drops has no influence on what it keeps: whether it
    is 10 or 10^100 times as long as the others, the outcome stays within the same bound. The default is no promise.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Filter, Vectors, chain, kept_rows
    >>> class Shortest(Filter):
    ...     name = "shortest"
    ...     def combine(self, vectors, trim):
    ...         return kept_rows(np.argsort(vectors.norms)[:1], len(vectors))
    >>> chain([Shortest()], Vectors.of_gram(np.diag([4.0, 1.0, 9.0])))
    array([0., 1., 0.])
    """

    trim: int | float = 0

    name: ClassVar[str]
    honest_gain: ClassVar[float] = 1.0
    spends: ClassVar[bool] = False
    shares: ClassVar[bool] = False
    looks_at: ClassVar[tuple[str, ...]] = ()
    trusts_root: ClassVar[bool] = False
    lengthens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_trim(self.trim)

    def least(self, trim: int) -> int:
        """Return the smallest number of vectors that the filter works with when it expects ``trim`` Byzantine ones."""
        return 2 * trim + 1

    def left(self, m: int, trim: int) -> int:
        """Return the smallest number of vectors that the filter makes of m."""
        return m

    def longest(self, m: int, trim: int) -> float:
        """Return C such that every vector it returns is at most C R long; infinite where nothing is promised of single ones."""
        return math.inf

    def reach(self, m: int, trim: int) -> float:
        """Return C such that the mean of what it returns is at most C R long, R the largest honest norm.

        Parameters
        ----------
        m : int
            How many vectors it is given, at least `least` (trim).
        trim : int
            How many of them may be Byzantine.

        Returns
        -------
        float
            `longest` by default, for a mean is no longer than the longest.
        """
        return self.longest(m, trim)

    @abstractmethod
    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Return the coefficients, shape (k, m), of what the filter makes of the vectors.

        Parameters
        ----------
        vectors : Vectors
            m >= `least` (trim) of them.
        trim : int
            How many Byzantine vectors to expect among them.

        Returns
        -------
        numpy.ndarray, shape (k, m), float64
            Non-negative, with row sums of at most 1, unless it `lengthens`; without that `reach_of` does not hold for chains.
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


def shortening(lengths: Matrix, radius: float) -> Matrix:
    """Return min(1, radius / length) for lengths of shape (m,), without dividing by zero or overflowing."""
    return np.divide(radius, lengths, out=np.ones_like(lengths), where=lengths > radius)
