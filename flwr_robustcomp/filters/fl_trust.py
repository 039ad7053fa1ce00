"""Trust each vector as far as it points where the server's own points, at the length of the server's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["FLTrust"]

_SHORTEST = 2.0**-64
"""In lengths of the root: a shorter vector says nothing, and its coefficient would not fit into single precision."""


@dataclass(frozen=True)
class FLTrust(Filter):
    """Make one mean of all vectors, each scaled to the root's length and weighted by its trust.

    Parameters
    ----------
    trim : int or float
        Changes nothing: the rule has no number of Byzantine vectors that it is for.

    Raises
    ------
    ConfigurationError
        In a round, if the root is zero or not finite, or no vector has a direction that it trusts.

    Notes
    -----
    With x_0 the server's own update from a small clean sample, the trust of x_i is relu(cos(x_i, x_0)), and the outcome is

        sum_i relu(cos(x_i, x_0)) (||x_0|| / ||x_i||) x_i / sum_i relu(cos(x_i, x_0))

    (Cao et al. 2021, section IV, equations 2 to 4). It is one row. Vectors shorter than 2^-64 times the root have no weight.

    *What is promised.* The outcome is a convex combination of vectors of length ||x_0||, whatever the clients send, and however
    many of them are Byzantine: it is at most ||x_0|| long, and its inner product with x_0 is positive. So an adversary chooses
    a direction within the half-space of the root, and never a length. In the terms of `Filter.reach`: 1, where R is the largest
    norm of the honest updates *and the root's*, for any ``trim``. The sum of the row can exceed 1, where honest updates are
    shorter than the root (`lengthens`); so no bound of an earlier filter carries over, and this one takes its place.

    *What is not.* All colluders can agree on one direction at an angle to the root, and outweigh the honest in it: then the
    step has a component that nobody honest asked for, up to ||x_0|| long. Nor is the mean unbiased where nodes are unlike: an
    honest node whose data the root's sample lacks has little trust.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Beside, FLTrust, Root, Vectors, chain
    >>> root, x = np.array([2.0, 0.0]), np.array([[1.0, 0.0], [-9.0, 0.0], [-9.0, 1.0]])  # two of three lie
    >>> vectors = Vectors.of_gram(x @ x.T, Beside(root=lambda: Root(2.0, x @ root)))
    >>> chain([FLTrust()], vectors) @ x
    array([2., 0.])
    """

    name: ClassVar[str] = "fl-trust"
    looks_at: ClassVar[tuple[str, ...]] = ("root",)
    trusts_root: ClassVar[bool] = True
    lengthens: ClassVar[bool] = True

    def least(self, trim: int) -> int:
        """Return 1: one honest vector is enough."""
        return 1

    def left(self, m: int, trim: int) -> int:
        """Return 1."""
        return 1

    def longest(self, m: int, trim: int) -> float:
        """Return 1: the outcome is at most as long as the root, and R is the largest norm of the honest and the root."""
        return 1.0

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Weigh every vector by its trust, at the root's length."""
        root = vectors.root
        require(0 < root.norm < np.inf, "norm of the root's update", root.norm, "positive and finite")
        norms = np.where(vectors.norms > _SHORTEST * root.norm, vectors.norms, np.inf)
        trust = np.clip(root.products / norms / root.norm, 0.0, 1.0)
        total = float(trust.sum())
        if not total > 0:
            raise ConfigurationError(
                f"at least one update must point where the root's does, got none of {len(vectors)}: the largest cosine "
                f"is {float((root.products / norms / root.norm).max()):.3g}"
            )
        return np.asarray(trust / total * (root.norm / norms))[None]  # (1, m)
