"""Keep the vectors that lower the loss on the server's own sample most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter, kept_rows
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Zeno"]


@dataclass(frozen=True)
class Zeno(Filter):
    """Keep the m - t vectors of the best score: what the loss loses by a step along them, less a price for their length.

    Parameters
    ----------
    trim : int or float
        t, how many are dropped; as a count it may be half of the vectors and more, and must leave one.
    rho : float
        The price of a squared unit of length, in units of the loss; finite, not negative.

    Notes
    -----
    score(x) = loss(w) - loss(w - x) - rho ||x||^2 with the loss of a small clean sample (Xie et al. 2019, Definition 2). Their
    x is a gradient that the server multiplies by gamma, ours is the whole step, so rho here is theirs over gamma^2. A loss that
    is not a number counts as infinite. loss(w) is the same for all, and is not computed. Ties go to the smaller place.

    *What is promised.* With at most t Byzantine vectors each kept one scores at least as high as the worst honest one: either
    it is honest, or an honest one was dropped for it. So rho ||x||^2 <= loss(w) - s for each kept x, s being the least honest
    score. That bounds lengths by the data, and not by R: alone `reach` promises nothing, and rho = 0 bounds nothing.

    Cost: one decoded update and one evaluation for each vector.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Beside, Vectors, Zeno, chain
    >>> w, x = np.array([1.0, 1.0]), np.array([[0.5, 0.5], [-1.0, 0.0], [0.0, -1.0]])  # two of three lie
    >>> loss = lambda mixing: np.square(w - mixing @ x).sum(axis=1)
    >>> chain([Zeno(trim=2)], Vectors.of_gram(x @ x.T, Beside(losses=loss)))
    array([1., 0., 0.])
    """

    rho: float = 0.001

    name: ClassVar[str] = "zeno"
    looks_at: ClassVar[tuple[str, ...]] = ("losses",)
    trusts_root: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.rho < math.inf, "rho", self.rho, "finite and not negative")

    def least(self, trim: int) -> int:
        """Return t + 1."""
        return trim + 1

    def left(self, m: int, trim: int) -> int:
        """Return m - t."""
        return m - trim

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Keep the m - t best."""
        losses = np.where(np.isnan(vectors.losses), np.inf, vectors.losses)
        require(bool(np.isfinite(losses).any()), "finite losses of the model less one update", 0, "at least 1")
        order = np.argsort(losses + self.rho * np.square(vectors.norms), kind="stable")
        return kept_rows(np.sort(order[: len(vectors) - trim]), len(vectors))
