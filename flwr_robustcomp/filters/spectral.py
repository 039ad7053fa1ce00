"""Drop the vectors that make one direction stand out."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, kept_rows
from flwr_robustcomp.filters.scatter import centred, is_rounding
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Spectral"]

_STEPS = 8
"""A budget is spent in about as many steps; one vector at a time was no better on the paper's regression, and slower."""


@dataclass(frozen=True, init=False)
class Spectral(Filter):
    """While the leading eigenvalue of the scatter stands out, drop the vectors with the largest share of its eigenvector.

    Parameters
    ----------
    trim : int or float
        t, the number of Byzantine vectors to expect: the most that is dropped, a few at a time.
    slack : float or None
        kappa > 1: nothing is dropped where lambda_1 <= kappa lambda_{t+2}. None drops ``trim`` vectors in any case.
    resume_slack : float, optional
        In (1, inf), 1.5 by default: once a direction stood out kappa-fold, vectors are dropped until
        lambda_1 <= resume_slack lambda_{t+2}, or kappa lambda_{t+2} if that is less.
    calm : float, optional
        The old name of ``resume_slack``. Deprecated; the next release removes it.

    Notes
    -----
    Colluders move the mean only by adding variance in one direction, and honest noise, spread over d directions, has little
    in any one (Diakonikolas et al. 2016; DnC, Shejwalkar and Houmansadr 2021; SMEA, Allouah et al. 2023). The scatter of k
    vectors about their mean has the non-zero eigenvalues of their centred Gram matrix K = H G H, k x k whatever d.

    *The stopping rule.* Let at most t of the k vectors be Byzantine and X_H, X_B the honest and the others, all minus the
    mean of all k, as columns. Dropping the t columns of X_B moves singular values down by at most t places, and X_H = Y + o 1^T
    differs from the honest vectors about their own mean, Y, by a matrix of rank one, so that Weyl's inequality gives

        lambda_{t+2}(K) <= sigma_2(Y + o 1^T)^2 <= sigma_1(Y)^2 =: lambda_H,

    whatever the Byzantine vectors are: an estimate of the honest scatter that they can lower but not raise. Without attack
    lambda_1 <= kappa lambda_{t+2} unless one honest direction stands out kappa-fold over t others, and then nothing is dropped.
    For honest vectors with independent coordinates of equal variance the ratio is that of the edge of the Marchenko-Pastur law
    to its quantile at 1 - t / min(d, m): below 3 for t <= m/4 and every d >= m, where d = m is worst. With far fewer dimensions
    than vectors it grows, and for d <= t + 1 there is no estimate at all: the budget is always spent.

    *Two thresholds.* One must be high, so that honest rounds pass, and then it also lets the last few colluders pass, whose
    direction no longer stands out that far. Once one direction has, there is an adversary, and a drop too many costs less than
    a colluder: the filter goes on to the lower one. This is the hysteresis of edge detectors (Canny 1986).

    *What it guarantees.* Let b <= t of the k vectors be Byzantine when the filter stops by either threshold, kappa standing
    for that one, and Delta the distance between their
    mean and the honest mean. Along that line the scatter is at least b (1 - b/k) Delta^2 <= lambda_1 <= kappa lambda_H, so
    the mean of all is off the honest one by b Delta / k <= sqrt(kappa b lambda_H / (k (k - b))): with lambda_H = k sigma^2
    that is about sigma sqrt(kappa alpha), the order that no rule can beat for honest vectors of covariance at
    most sigma^2 I (Diakonikolas et al. 2016). Honest vectors that were dropped cost at most as much again. If the budget is
    spent before the rule is met, what is left is `reach`.

    *Reach*, with R the largest honest norm and h the number of honest vectors. Stopped by a threshold, the bias above is at
    most R sqrt(kappa b / k), as lambda_H <= h R^2. With the budget spent on Byzantine vectors alone, none is left. Otherwise
    look at the step that first drops an honest vector j. Let u be the leading direction, mu >= 0 the mean along it, a_i the
    distance from mu of vector i along u, and D the largest. The filter drops the q = ceil(t / 8) largest, and none below
    D / sqrt(2). So D <= sqrt(2) a_j <= sqrt(2) (R + mu), and at most n = q - 1 Byzantine vectors are farther from mu than j.
    The b' Byzantine vectors that are left add up to at least k mu - h R along u, and to at most b' mu + B (R + mu) with
    B = b' + (sqrt(2) - 1) n. Hence R + mu <= 2 h R / (h - B), and lambda_1 <= k D^2 is at most k (c R)^2 with
    c = 2 sqrt(2) h / (h - B). Dropping more does not raise lambda_1, so that at the end the mean is within
    c R sqrt(t m / ((m - t) (m - 2 t))) of that of the honest vectors left.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Spectral, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([Spectral(trim=1)], Vectors.of_gram(x @ x.T))
    array([0.25, 0.25, 0.25, 0.25, 0.  ])
    """

    slack: float | None = 3.0
    resume_slack: float = 1.5

    name: ClassVar[str] = "spectral"
    shares: ClassVar[bool] = True

    def __init__(
        self,
        trim: int | float = 0,
        slack: float | None = 3.0,
        resume_slack: float | None = None,
        *,
        calm: float | None = None,
    ) -> None:
        if calm is not None:
            # `dataclasses.replace` gives both; it has the default of the one that nobody set.
            unset = resume_slack in (None, type(self).resume_slack)
            require(unset, "calm", calm, "left out where resume_slack, its new name, is given")
            _warn_of_calm()
            resume_slack = calm
        object.__setattr__(self, "trim", trim)
        object.__setattr__(self, "slack", slack)
        object.__setattr__(self, "resume_slack", type(self).resume_slack if resume_slack is None else resume_slack)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.slack is None or 1 < self.slack < math.inf, "slack", self.slack, "above 1 and finite, or None")
        require(1 < self.resume_slack < math.inf, "resume_slack", self.resume_slack, "above 1 and finite")

    @property
    def calm(self) -> float:
        """The old name of ``resume_slack``; deprecated."""
        _warn_of_calm()
        return self.resume_slack

    def least(self, trim: int) -> int:
        """Return 2 t + 3: lambda_{t+2} must still be an eigenvalue of the scatter when t vectors are gone."""
        return 2 * trim + 3

    def left(self, m: int, trim: int) -> int:
        """Return m - t."""
        return m - trim

    def reach(self, m: int, trim: int) -> float:
        """Return 1 plus the larger of the two shifts, in units of R; infinite where h <= B, for t just below m/2."""
        honest, crowd = m - trim, trim + (math.sqrt(2) - 1) * (math.ceil(trim / _STEPS) - 1)
        if honest <= crowd:
            return math.inf
        stopped = math.sqrt(max(self.slack or 0.0, self.resume_slack) * trim / (m - trim))
        spent = 2 * math.sqrt(2) * honest / (honest - crowd) * math.sqrt(trim * m / ((m - trim) * (m - 2 * trim)))
        return 1 + max(stopped, spent)

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Drop a few at a time until the rule is met or the budget is spent."""
        m, slack = len(vectors), self.slack
        kept, most = np.arange(m), math.ceil(trim / _STEPS)
        while (left := trim - (m - kept.size)) > 0:
            gram = vectors.gram[np.ix_(kept, kept)]
            values, vectors_of = np.linalg.eigh(centred(gram))
            if slack is not None:
                if _is_met(values, trim, slack):
                    break
                slack = min(slack, self.resume_slack)
            # All that is left is the same but for rounding: no direction means anything. What is gone has no say in it.
            if is_rounding(float(values[-1]), gram):
                break
            shares = np.square(vectors_of[:, -1])
            worst = np.argsort(-shares, kind="stable")[: min(most, left)]
            # A direction that belongs to one vector says nothing of the others, however few steps are left.
            worst = worst[shares[worst] >= shares[worst[0]] / 2]
            kept = np.delete(kept, worst)
        return kept_rows(kept, m)

    def is_quiet(self, gram: Matrix, trim: int) -> bool:
        """Whether all vectors of a Gram matrix, shape (m, m), pass; never with a fixed budget."""
        values: Matrix = np.asarray(np.linalg.eigvalsh(centred(gram)), np.float64)
        return self.slack is not None and _is_met(values, trim, self.slack)


def _warn_of_calm() -> None:
    message = "calm of Spectral is now resume_slack; the next release removes the old name"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def _is_met(values: npt.NDArray[np.floating[Any]], trim: int, slack: float) -> bool:
    """Whether lambda_1 <= kappa lambda_{t+2}, of eigenvalues in ascending order."""
    return bool(values[-1] <= slack * max(values[-trim - 2], 0.0))
