"""Weigh down the nodes that have sent the same as another node, over the rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["FoolsGold"]

_SAME = 1e-12
"""A distance from a cosine of one that is rounding."""


@dataclass(frozen=True)
class FoolsGold(Filter):
    """Scale each vector by how little its node's history resembles that of any other node.

    Parameters
    ----------
    trim : int or float
        Not used: the number of Byzantine vectors need not be known, and may be a majority.
    confidence : float
        kappa, positive: how steep the logit is.

    Notes
    -----
    Fung, Yoon and Beschastnikh 2020, Algorithm 1. With c_ij the cosines of the histories and v_i = max_{j != i} c_ij:

    1. *Pardoning:* c_ij is multiplied by v_i / v_j where v_j > v_i, so that a node which resembles a colluder by chance does
       not pay for the colluder's own resemblance to others.
    2. alpha_i = 1 - max_{j != i} c_ij, divided by the largest of them.
    3. The weight is kappa (log(alpha_i / (1 - alpha_i)) + 1/2), clipped to [0, 1].

    Where the definition is silent: a cosine below zero counts as zero, as does that of a history of zeros; with all alphas zero
    everybody is the same, and all weights are 1. The original weighs by features that the model finds important as an option;
    this is the form without.

    *What it is for:* Sybils, who send the same over and over, while honest nodes are unlike each other. *Its weakness* is the
    reverse. Where honest nodes are alike they are taken for Sybils: with IID data it weighs down whom it should keep, and the
    step is shorter. One Byzantine node alone, or colluders who take care to differ, have weight 1. It promises no `reach`; put
    a filter before it that bounds lengths.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Beside, FoolsGold, Vectors, chain
    >>> sums = np.array([[1.0, 0.0, 0.2], [0.1, 1.0, 0.0], [0.0, 0.1, 1.0], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.01]])
    >>> vectors = Vectors.of_gram(np.eye(5), Beside(history=lambda: sums @ sums.T))
    >>> chain([FoolsGold()], vectors).round(2)
    array([0.2, 0.2, 0.2, 0. , 0. ])
    """

    confidence: float = 1.0

    name: ClassVar[str] = "fools-gold"
    looks_at: ClassVar[tuple[str, ...]] = ("history",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.confidence < math.inf, "confidence", self.confidence, "positive and finite")

    def least(self, trim: int) -> int:
        """Return 1: there is no majority to count on."""
        return 1

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Weigh."""
        cosines = _cosines(vectors.history)
        likest = cosines.max(axis=1)  # (m,)
        pardon = np.divide(likest[:, None], likest, out=np.ones_like(cosines), where=likest > likest[:, None])
        alphas = 1.0 - (cosines * pardon).max(axis=1)
        largest = float(alphas.max())
        if largest <= _SAME:
            return np.eye(len(vectors))
        alphas = np.where(alphas <= _SAME, 0.0, alphas / largest)
        with np.errstate(divide="ignore"):  # the logit of 0 and 1 is infinite, and clipped
            logits = np.log(alphas) - np.log1p(-alphas)
        return np.diag(np.clip(self.confidence * (logits + 0.5), 0.0, 1.0))


def _cosines(gram: Matrix) -> Matrix:
    """Return the cosines of other vectors, shape (m, m), none below zero; zero on the diagonal."""
    lengths = np.sqrt(np.maximum(np.diag(gram), 0.0))
    lengths = np.where(lengths > 0, lengths, 1.0)
    cosines = np.clip(gram / lengths[:, None] / lengths, 0.0, 1.0)
    np.fill_diagonal(cosines, 0.0)
    return cosines
