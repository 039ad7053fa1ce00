"""Drop the vectors whose common direction stands out, whatever their lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.spectral import Spectral
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Directions"]


@dataclass(frozen=True)
class Directions(Filter):
    """The spectral filter on unit vectors: colluders agree in direction, and unlike honest nodes differ in length first.

    Parameters
    ----------
    trim : int or float
        t, the number of Byzantine vectors to expect: the most that is dropped, a few at a time.
    slack, resume_slack : float
        As for `Spectral`, for the scatter of the unit vectors.

    Notes
    -----
    The Gram matrix of the unit vectors x_i / ||x_i|| is G_ij / (||x_i|| ||x_j||); a zero vector stays zero. Everything else is
    `Spectral`, its stopping rule and its guarantee included, with R = 1. What that says is about directions alone: the mean of
    the unit vectors that are kept is near that of the honest ones.

    *Why beside* `Spectral`. Where nodes have unlike data, the honest updates of a round differ in length, and a direction in
    which a long honest update lies stands out. The plain filter then drops that node, round after round, and what colluders of
    honest length agree on hides behind it. Unit vectors show neither. What they do not show either is length: liars who differ
    in length alone, as nodes with wrong labels do, are what the plain filter finds. So this filter belongs before it.

    *Length.* It promises none. Put a filter before it that bounds lengths (`NormClipping`, `Length`), as in
    ``"norm-clipping+directions+spectral"``.

    *The budget* is one for both: what this filter drops is taken off the trim of a `Spectral` after it.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Directions, Spectral, Vectors, chain
    >>> honest = np.array([[9.0, 1.0, 0.0], [0.3, 0.0, 0.1], [1.0, -0.2, 0.1], [0.5, 0.1, -0.1], [2.0, 0.0, -0.3]])
    >>> x = np.vstack([honest, [[-0.4, 0.0, 0.0]]])  # short, and against all others
    >>> chain([Directions(trim=1)], Vectors.of_gram(x @ x.T)).round(1)
    array([0.2, 0.2, 0.2, 0.2, 0.2, 0. ])
    """

    slack: float = 3.0
    resume_slack: float = 1.5

    name: ClassVar[str] = "directions"
    spends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 < self.slack < math.inf, "slack", self.slack, "above 1 and finite")
        require(1 < self.resume_slack < math.inf, "resume_slack", self.resume_slack, "above 1 and finite")

    def least(self, trim: int) -> int:
        """Return 2 t + 3, as `Spectral` does."""
        return 2 * trim + 3

    def left(self, m: int, trim: int) -> int:
        """Return m - t."""
        return m - trim

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Let `Spectral` look at the unit vectors."""
        return Spectral(trim, self.slack, self.resume_slack).combine(Vectors.of_gram(vectors.cosines), trim)
