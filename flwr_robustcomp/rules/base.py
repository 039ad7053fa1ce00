"""The interface of a rule: from the packed vectors that filters leave to the aggregate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.filters import Bounds, Matrix

__all__ = ["Mass", "Rule", "surviving_shares"]


@dataclass(frozen=True)
class Mass:
    """How much of k vectors a rule left in the aggregate.

    Attributes
    ----------
    total, survived : numpy.ndarray, shape (k,), float64
        The l1 norm of each vector, and of what was not cut of it; in one unit for all parts of a model.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.rules import Mass
    >>> head, body = Mass(np.array([1.0]), np.array([1.0])), Mass(np.array([3.0]), np.array([2.0]))
    >>> (head + body).shares.tolist()
    [0.75]
    """

    total: Matrix
    survived: Matrix

    def __add__(self, other: Mass) -> Mass:
        return Mass(self.total + other.total, self.survived + other.survived)

    @property
    def shares(self) -> Matrix:
        """What survived, out of 1, shape (k,); 1 of a zero vector."""
        return np.divide(self.survived, self.total, out=np.ones_like(self.total), where=self.total > 0)


def surviving_shares(coefficients: Matrix, uncut: Matrix) -> Matrix:
    """Return which share of each of m vectors went into the aggregate, shape (m,).

    Parameters
    ----------
    coefficients : numpy.ndarray, shape (k, m), float64
        What filters made of the vectors, none negative.
    uncut : numpy.ndarray, shape (k,), float64
        What a rule left of each of these k (`Mass.shares`).

    Notes
    -----
    A filter that picks vectors gives each a row of its own: what survives of a vector is the coefficient, times what the rule
    left. In mixtures a weight says nothing by itself: a single mean of n vectors gives each about 1/n, and bucketing leaves
    half as many rows as it was given, although nothing is lost. So a column that sums to k/n counts as the whole vector, n
    being how many vectors were used: the shares of vectors that count alike are 1, whatever k is.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.rules.base import surviving_shares
    >>> surviving_shares(np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]]), np.array([0.8, 1.0])).tolist()  # dropped, halved, cut
    [0.8, 0.5, 0.0]
    >>> surviving_shares(np.array([[0.5, 0.25, 0.25, 0.0]]), np.ones(1)).tolist()  # a single mean
    [1.5, 0.75, 0.75, 0.0]
    """
    sums = np.asarray((coefficients * uncut[:, None]).sum(axis=0))
    if (np.count_nonzero(coefficients, axis=1) <= 1).all():
        return sums
    return sums * (np.count_nonzero(coefficients.any(axis=0)) / len(coefficients))


@dataclass(frozen=True)
class Rule(ABC):
    """How the vectors that filters leave become one; immutable, and free of any state.

    Attributes
    ----------
    name : str
        The name in the registry and in scenarios.
    by_coordinate : bool
        Whether it compares the values that the vectors have at a coordinate.

    Examples
    --------
    >>> from flwr_robustcomp.rules import RULES
    >>> {name: rule().cut(20, 5) for name, rule in RULES.items()}
    {'mean': 0, 'median': 9, 'trimmed-mean': 5}
    """

    name: ClassVar[str]
    by_coordinate: ClassVar[bool] = True

    @abstractmethod
    def cut(self, k: int, trim: int) -> int:
        """Return how many of k values it cuts on each side of a coordinate, if ``trim`` Byzantine ones are expected."""

    def reach(self, bounds: Bounds, trim: int) -> float:
        """Return C such that the outcome is at most C R long, R being the largest honest norm.

        Parameters
        ----------
        bounds : Bounds
            What the filters promise of the vectors that they leave.
        trim : int
            How many of these may be Byzantine.

        Notes
        -----
        The default is for rules that cut b of k values on each side of every coordinate, with b >= ``trim``. A cut takes length
        away, so that the sum of what is left is at most k times as long as the longest vector, and their mean k / (k - 2b)
        times. Every entry lies between the smallest and the largest honest value at its coordinate: the squares add up to at
        most those of all k - trim honest vectors. How many there are, filters decide by what they see: the largest bound of all
        k that they can leave holds.
        """
        return max(self._reach(k, bounds, trim) for k in range(bounds.count, bounds.most + 1))

    def _reach(self, k: int, bounds: Bounds, trim: int) -> float:
        by_length = k / (k - 2 * self.cut(k, trim)) * bounds.longest
        return min(by_length, math.sqrt(k - trim) * bounds.gain) if k > 2 * trim else by_length

    @abstractmethod
    def combine(
        self, out: Tensor, compressor: Compressor, payloads: Sequence[Payload], coefficients: Matrix, trim: int
    ) -> Mass:
        """Add the outcome to a vector, and return what survived.

        Parameters
        ----------
        out : Tensor, shape (d,), float32 or float64, contiguous, on the CPU
            What the outcome is added to.
        compressor : Compressor
            Reads the payloads.
        payloads : sequence of Payload, m of them
            All of d coordinates.
        coefficients : numpy.ndarray, shape (k, m), float64
            What filters made of the vectors: each of k rows is a combination of them, and none is negative.
        trim : int
            How many of the k may be Byzantine.
        """
