"""Weigh vectors down along the direction in which they scatter most, and take the mean that scattered least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.scatter import centred, is_rounding
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["CAF"]

_ROUNDING = 1e-9
"""A share of a weight that may be rounding: projections are off by a few units in the last place times their number."""


@dataclass(frozen=True)
class CAF(Filter):
    """The covariance-bound agnostic filter: a weighted mean, whose weights fall with the distance along bad directions.

    Parameters
    ----------
    trim : int or float
        t, the number of Byzantine vectors to expect.

    Notes
    -----
    Allouah, Guerraoui and Stephan 2025 (CAF). It starts with weights c_i = 1 and repeats, while their sum C exceeds m - 2 t:
    take the weighted mean mu, and lambda and v, the leading eigenvalue and eigenvector of the weighted covariance
    sum_i c_i (x_i - mu) (x_i - mu)^T / C; with tau_i = <x_i - mu, v>^2 multiply c_i by 1 - tau_i / max_j tau_j. It returns the
    mu of smallest lambda. Unlike the filters that it descends from (Diakonikolas et al. 2016) it needs no bound on the honest
    covariance.

    The covariance has the eigenvalues of S K S, K the Gram matrix of the x_i - mu and S = diag(sqrt(c_i / C)), and with u its
    leading eigenvector, tau_i is the square of (K S u)_i / sqrt(lambda). The largest tau is taken among the vectors that still
    have a weight. So each step takes all weight from one of them, and there are at most m steps. A vector without weight cannot
    hold up the others, however long it is.

    *Reach*, with h honest vectors and b <= t Byzantine ones, h > b. Let the Byzantine vectors have more of sum_i c_i tau_i than
    the honest ones. Then the honest ones lose less weight. While that is so, less than 2 t is lost in all, and the filter goes
    on. So there is a first step s where it is not so. Let C_h and C_b be the weights of the two there: C_h - C_b >= h - b. Let
    Delta be the distance of their means along v. The honest tau, weighted, add up to at most C_h R^2 + C_h C_b^2 Delta^2 / C^2,
    the others to at least C_b C_h^2 Delta^2 / C^2, which gives Delta^2 <= R^2 C^2 / (C_b (C_h - C_b)). Hence lambda is at
    most 2 C_h^2 R^2 / (C (C_h - C_b)) <= L R^2 at s, L = 2 h / (h - b), and so it is for the mean that is returned.

    Wherever lambda <= L R^2, mu is within R sqrt(L C_b / C_h) of the honest mean, and up to s C_b / C_h <= b / h. After s
    weights only fall: the second moment about the mu of s stays at most m L R^2, and with C > m - 2 t the mean has moved by at
    most R sqrt(L m / (m - 2 t)).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import CAF, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> (chain([CAF(trim=1)], Vectors.of_gram(x @ x.T)) @ x).round(1)
    array([1., 0.])
    """

    name: ClassVar[str] = "caf"

    def left(self, m: int, trim: int) -> int:
        """Return 1."""
        return 1

    def reach(self, m: int, trim: int) -> float:
        """Return 1 + sqrt(2 h / (h - t)) (sqrt(t / h) + sqrt(m / (m - 2 t))) with h = m - t; infinite for t >= m/2."""
        if 2 * trim >= m:
            return math.inf
        honest = m - trim
        return 1 + math.sqrt(2 * honest / (honest - trim)) * (math.sqrt(trim / honest) + math.sqrt(m / (m - 2 * trim)))

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Go through the steps, and return the shares of the best one."""
        m = len(vectors)
        weights = np.ones(m)
        best, smallest = weights / m, math.inf
        while True:
            alive = np.flatnonzero(weights)
            shares = weights[alive] / weights[alive].sum()
            gram = vectors.gram[np.ix_(alive, alive)]  # what has no weight has no say, nor any rounding errors
            value, projections = _leading(gram, shares)
            if value < smallest:
                best, smallest = np.zeros(m), value
                best[alive] = shares
            if is_rounding(value, np.sqrt(np.outer(shares, shares)) * gram):
                return best[None, :]  # all that has weight is the same
            left = 1 - np.square(projections / np.abs(projections).max())
            # Twins of the farthest vector go with it: what rounding leaves of one would steer the next step.
            weights[alive] *= np.where(left > _ROUNDING, left, 0.0)
            if weights.sum() <= m - 2 * trim:
                return best[None, :]


def _leading(gram: Matrix, shares: Matrix) -> tuple[float, Matrix]:
    """Return the leading eigenvalue of a weighted covariance and, up to a factor, <x_i - mu, v>, shape (k,)."""
    roots, about = np.sqrt(shares), centred(gram, shares)
    values, axes = np.linalg.eigh(roots[:, None] * about * roots)
    return float(values[-1]), about @ (roots * axes[:, -1])
