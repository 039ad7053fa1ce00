"""Keep the vectors of smallest norm: the paper's own filter (Algorithms 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.filters.base import Filter, Matrix, Vectors, kept_rows

__all__ = ["Norm"]


@dataclass(frozen=True)
class Norm(Filter):
    """Drop the ``trim`` vectors of largest l2 norm; needs no inner products.

    Notes
    -----
    Ghosh et al. 2020, Algorithms 1 and 2, line 6. Equal norms are kept in the order given. It bounds what is kept by the
    largest honest norm, and nothing else: a vector of honest length in a harmful direction passes.
    """

    name: ClassVar[str] = "norm"

    def left(self, m: int, trim: int) -> int:
        """Return m - t."""
        return m - trim

    def longest(self, m: int, trim: int) -> float:
        """Return 1: of the m - t shortest, the longest is no longer than the longest of any m - t vectors."""
        return 1.0

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Keep the smallest."""
        order = np.argsort(vectors.norms, kind="stable")
        return kept_rows(np.sort(order[: len(vectors) - trim]), len(vectors))
