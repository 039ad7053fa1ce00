"""Filters one after the other: what a chain makes of vectors, and what it promises."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters.base import Filter, trim_of
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Bounds", "bounds_of", "chain", "chain_as_left", "chain_rows", "fitted", "own_budgets", "reach_of"]


def chain(filters: Sequence[Filter], vectors: Vectors) -> Matrix:
    """Apply filters as `chain_rows` does, and take the mean of what the last one leaves.

    Returns
    -------
    numpy.ndarray, shape (m,), float64
        Coefficients of the vectors in the aggregate; zero for those that a filter dropped.
    """
    return np.asarray(chain_rows(filters, vectors).mean(axis=0))


def chain_rows(filters: Sequence[Filter], vectors: Vectors) -> Matrix:
    """Apply filters one after the other.

    Parameters
    ----------
    filters : sequence of Filter
        Fractions are of the m vectors of the start.
    vectors : Vectors
        m of them.

    Returns
    -------
    numpy.ndarray, shape (k, m), float64
        Coefficients of what the last filter leaves: k combinations of the vectors.

    Raises
    ------
    ConfigurationError
        If a filter is left with fewer vectors than it needs.
    """
    return _walked(filters, vectors, [False] * len(filters))[0]


def chain_as_left(filters: Sequence[Filter], vectors: Vectors, yielding: Sequence[bool]) -> tuple[Matrix, list[Filter]]:
    """Apply filters as `chain_rows` does, some of them for as many Byzantine vectors as they can with what they are left.

    Parameters
    ----------
    filters, vectors
        As for `chain_rows`.
    yielding : sequence of bool
        Which filters lower their trim where they are left with too few. One that is left with too few for any passes all on.

    Returns
    -------
    (numpy.ndarray, shape (k, m), float64, list of Filter)
        What `chain_rows` returns, and the filters, those that yielded with the counts that they worked with for trims.

    Raises
    ------
    ConfigurationError
        If one of the others is left with too few.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Length, Spectral, Vectors
    >>> from flwr_robustcomp.filters.chains import chain_as_left
    >>> vectors = Vectors.of_gram(np.diag([1.0] * 4 + [1e6] * 3))
    >>> [one.trim for one in chain_as_left([Length(2), Spectral(2)], vectors, [True, True])[1]]
    [2, 0]
    """
    return _walked(filters, vectors, yielding)


def _walked(filters: Sequence[Filter], vectors: Vectors, yielding: Sequence[bool]) -> tuple[Matrix, list[Filter]]:
    m = len(vectors)
    total: Matrix | None = None
    spent, worked = 0, []
    for one, yields in zip(filters, yielding, strict=True):
        taken = spent if one.shares else 0
        trim, left = max(0, trim_of(one.trim, m) - taken), len(vectors)
        if left < one.least(trim):
            if not yields:
                raise ConfigurationError(f"{one.name!r} with trim {trim} needs at least {one.least(trim)} updates, got {left}")
            trim = next((t for t in range(trim, 0, -1) if one.least(t) <= left), 0)
            one = replace(one, trim=trim and trim + taken)
        worked.append(one)
        step = one.combine(vectors, trim) if one.least(trim) <= left else np.eye(left)
        spent += left - len(step) if one.spends else 0
        total = step if total is None else step @ total
        if len(worked) < len(filters):
            # Rows of the identity pick vectors, and need no Gram matrix of their own.
            picked = _picked(step)
            vectors = vectors.combined(step) if picked is None else vectors.subset(picked)
    return np.eye(m) if total is None else total, worked


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
    bounds = bounds_of(filters, m)
    return min(bounds.longest, bounds.mean)


@dataclass(frozen=True)
class Bounds:
    """What a chain of filters promises of m vectors, in units of the largest honest norm; see `reach_of`.

    Attributes
    ----------
    longest : float
        How long a single vector that it leaves can be.
    mean : float
        How long their mean can be, by what the last filter promises.
    gain : float
        How long a vector that stands in the place of an honest one can be.
    count, most : int
        How many it leaves, at least and at most.

    Examples
    --------
    >>> from flwr_robustcomp.filters import NormClipping, Spectral, bounds_of
    >>> bounds = bounds_of([NormClipping(4), Spectral(4)], 20)
    >>> bounds.longest, bounds.gain, bounds.count, bounds.most
    (1.0, 1.0, 16, 20)
    """

    longest: float
    mean: float
    gain: float
    count: int
    most: int


def bounds_of(filters: Sequence[Filter], m: int, *, yielding: bool = False) -> Bounds:
    """Return what a chain promises of m vectors.

    Parameters
    ----------
    filters, m
        As for `reach_of`.
    yielding : bool
        Whether a filter that is left with too few works for fewer (`chain_as_left`). If it may have to, it promises nothing.
    """
    bound, gain, outcome, count, spent = math.inf, 1.0, math.inf, m, 0
    for one in filters:
        trim = trim_of(one.trim, m)
        if yielding and count < one.least(trim):
            bound, gain, outcome, count = math.inf if one.lengthens else bound, math.inf, math.inf, one.left(count, trim)
            continue
        count = max(count, one.least(trim))  # with fewer left, `chain` refuses
        bound = min(math.inf if one.lengthens else bound, gain * one.longest(count, trim))
        own = math.inf if one.shares and spent else one.reach(count, trim)
        outcome = gain * (1.0 if trim == 0 and not one.lengthens else own)  # without liars, a combination of honest ones
        gain, kept = gain * one.honest_gain, one.left(count, max(0, trim - spent) if one.shares else trim)
        count, spent = kept, spent + (count - kept if one.spends else 0)
    return Bounds(bound, outcome, gain, count, m)


def _picked(step: Matrix) -> npt.NDArray[np.intp] | None:
    """Return which vectors a step keeps as they are, None if it mixes them."""
    if np.count_nonzero(step) != len(step) or not bool((step.max(axis=1) == 1.0).all()):
        return None
    return np.asarray(step.argmax(axis=1))
