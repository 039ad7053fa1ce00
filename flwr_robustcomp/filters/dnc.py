"""Drop what lies farthest along the direction in which the vectors scatter most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, kept_rows
from flwr_robustcomp.filters.scatter import centred, is_rounding
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["DnC"]


@dataclass(frozen=True)
class DnC(Filter):
    """Divide and conquer: drop the ``factor`` t vectors of largest projection on the leading singular direction.

    Parameters
    ----------
    trim : int or float
        t, the number of Byzantine vectors to expect.
    factor : float
        c, positive and finite: each pass drops q = ceil(c t) vectors.
    iterations : int
        n, passes over what is left, at least 1. So n q vectors are dropped together.

    Notes
    -----
    Shejwalkar and Houmansadr 2021, Algorithm 2. With v the leading right singular vector of the centred vectors, the score of
    a vector is <x_i - mean, v>^2, which is lambda_1 u_i^2 for the leading eigenvector u of the centred Gram matrix.

    *What differs.* The paper scores a random part of the coordinates, because it decomposes a dense matrix; here all
    coordinates count, as m x m numbers suffice. The sketch of `RobustCompressed` is the same idea. The paper draws that part n
    times and keeps what every draw keeps. Without draws these passes would be the same, so each looks at what the last left.
    `Spectral` is the same with a stopping rule: this filter drops its vectors in any round.

    *Reach.* One pass promises nothing for t > 1: of two Byzantine vectors, huge and in orthogonal directions, it sees one. Put
    a filter that bounds lengths before it, as in ``"norm-clipping+dnc"``. With n >= t passes there is a bound. Either every
    pass drops a Byzantine vector, and none is left; or some pass drops honest ones alone. In that one let b <= t of the k
    vectors be Byzantine, h = k - b, mu >= 0 the mean along v and D the largest distance from it of a Byzantine vector along v.
    A dropped honest vector is farther, so D <= R + mu. The sum along v is k mu <= h R + b (mu + D), so
    that R + mu <= 2 h R / (h - b). All other distances are at most R + mu, too, and lambda_1 <= k (2 h R / (h - b))^2. Dropping
    more does not raise it. Of the l = m - n q vectors at the end at most t are Byzantine, and their mean is within
    sqrt(t lambda_1 / (l (l - t))) of that of the honest ones, as for `Spectral`.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import DnC, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> chain([DnC(trim=1)], Vectors.of_gram(x @ x.T))
    array([0.25, 0.25, 0.25, 0.25, 0.  ])
    """

    factor: float = 1.0
    iterations: int = 1

    name: ClassVar[str] = "dnc"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.factor < math.inf, "factor", self.factor, "positive and finite")
        require(isinstance(self.iterations, int) and self.iterations >= 1, "iterations", self.iterations, "at least 1")

    def least(self, trim: int) -> int:
        """Return 2 t + 1, and one more than what is dropped."""
        return max(2 * trim, self.iterations * self._dropped(trim)) + 1

    def left(self, m: int, trim: int) -> int:
        """Return m - n q."""
        return m - self.iterations * self._dropped(trim)

    def reach(self, m: int, trim: int) -> float:
        """Return 1 + 2 h / (h - t) sqrt(t m / (l (l - t))), l = m - n q and h = l + q - t, for n >= t; infinite for n < t."""
        left = self.left(m, trim)
        honest = left + self._dropped(trim) - trim
        if self.iterations < trim or honest <= trim or left <= trim:
            return math.inf
        return 1 + 2 * honest / (honest - trim) * math.sqrt(trim * m / (left * (left - trim)))

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Drop so many in each pass, unless all that is left is the same but for rounding."""
        kept = np.arange(len(vectors))
        for _ in range(self.iterations):
            gram = vectors.gram[np.ix_(kept, kept)]
            values, axes = np.linalg.eigh(centred(gram))
            if is_rounding(float(values[-1]), gram):
                break
            farthest = np.argsort(-np.square(axes[:, -1]), kind="stable")[: self._dropped(trim)]
            kept = np.delete(kept, farthest)
        return kept_rows(kept, len(vectors))

    def _dropped(self, trim: int) -> int:
        """Return q, with room for the rounding of c t."""
        return math.ceil(self.factor * trim - 1e-9)
