"""The interface of a filter: from the inner products of m vectors to linear combinations of them."""

from __future__ import annotations

import itertools
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Filter", "chain", "check_trim", "fitted", "kept_rows", "own_budgets", "reach_of", "shortening", "trim_of"]


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
    spent = 0
    for one in filters:
        trim = trim_of(one.trim, m)
        trim = max(0, trim - spent) if one.shares else trim
        left = len(vectors)
        if left < one.least(trim):
            raise ConfigurationError(f"{one.name!r} with trim {trim} needs at least {one.least(trim)} updates, got {left}")
        step = one.combine(vectors, trim)
        spent += left - len(step) if one.spends else 0
        total = step if total is None else step @ total
        if one is not filters[-1]:
            # Rows of the identity pick vectors, and need no Gram matrix of their own.
            picked = _picked(step)
            vectors = vectors.combined(step) if picked is None else vectors.subset(picked)
    if total is None:
        return np.full(m, 1.0 / m)
    return np.asarray(total.mean(axis=0))


def fitted(filters: Sequence[Filter], m: int, shares: Sequence[bool] | None = None) -> list[Filter]:
    """Return the filters of a chain, those whose trim is a share with the largest count up to it that they can work with.

    Parameters
    ----------
    filters : sequence of Filter
        As for `chain`. A trim that is a count stays: it is a number of nodes that somebody fears.
    m : int
        How many vectors the chain is given.
    shares : sequence of bool, optional
        Which trims are shares; by default those that are fractions.

    Returns
    -------
    list of Filter
        With counts for trims.

    Examples
    --------
    >>> from flwr_robustcomp.filters import NormClipping, Spectral, fitted
    >>> [[one.trim for one in fitted([NormClipping(0.2), Spectral(0.2)], m)] for m in (4, 5, 6, 7, 10)]
    [[1, 0], [1, 1], [2, 1], [2, 2], [2, 2]]
    """
    result, left, spent = [], m, 0
    for i, one in enumerate(filters):
        trim, room = trim_of(one.trim, m), left + spent if one.shares else left  # what was spent is taken off both
        if isinstance(one.trim, float) if shares is None else shares[i]:
            trim = next((t for t in range(trim, 0, -1) if one.least(t) <= room), 0)
        result.append(replace(one, trim=trim))
        kept = one.left(left, max(0, trim - spent) if one.shares else trim)
        spent += left - kept if one.spends else 0
        left = kept
    return result


def own_budgets(filters: Sequence[Filter]) -> list[Filter]:
    """Return the filters of a chain without those that share what an earlier one has left of its trim."""
    spending = itertools.accumulate((one.spends for one in filters), operator.or_, initial=False)
    return [one for one, shared in zip(filters, spending, strict=False) if not (one.shares and shared)]


def reach_of(filters: Sequence[Filter], m: int) -> float:
    """Return C such that the outcome of `chain` is at most C times as long as the longest honest vector.

    Parameters
    ----------
    filters : sequence of Filter
        As for `chain`.
    m : int
        How many vectors the chain is given. At most as many of them are Byzantine as the smallest ``trim`` among the filters.

    Returns
    -------
    float
        Infinite where nothing is promised: without filters, or where the last one promises nothing and none before it bounds
        single vectors.

    Notes
    -----
    A filter leaves at most as many Byzantine vectors as it was given, in the place of honest vectors it puts some of at most
    `Filter.honest_gain` times their length, and its rows are convex combinations or shorter, unless it `Filter.lengthens`. So a
    bound on single vectors, once there, stays, and the last filter's own bound holds for the lengths that it was given. One
    that shares a budget which an earlier one may have spent on honest vectors adds no bound of its own.

    Examples
    --------
    >>> from flwr_robustcomp.filters import Length, NearestNeighborMixing, Norm, Spectral, reach_of
    >>> reach_of([Norm(4), Spectral(4)], 20), reach_of([NearestNeighborMixing(4)], 20)
    (1.0, inf)
    >>> round(reach_of([Spectral(4)], 20), 2), reach_of([Length(4), NearestNeighborMixing(4)], 20)
    (3.43, 100.0)
    """
    bound, gain, outcome, count, spent = math.inf, 1.0, math.inf, m, 0
    for one in filters:
        trim = trim_of(one.trim, m)
        count = max(count, one.least(trim))  # with fewer left, `chain` refuses
        bound = min(math.inf if one.lengthens else bound, gain * one.longest(count, trim))
        own = math.inf if one.shares and spent else one.reach(count, trim)
        outcome = gain * (1.0 if trim == 0 and not one.lengthens else own)  # without liars, a combination of honest ones
        gain, kept = gain * one.honest_gain, one.left(count, trim)
        count, spent = kept, spent + (count - kept if one.spends else 0)
    return min(bound, outcome)


def _picked(step: Matrix) -> npt.NDArray[np.intp] | None:
    """Return which vectors a step keeps as they are, None if it mixes them."""
    if np.count_nonzero(step) != len(step) or not bool((step.max(axis=1) == 1.0).all()):
        return None
    return np.asarray(step.argmax(axis=1))
