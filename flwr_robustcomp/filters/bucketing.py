"""Average small groups, drawn by lot, and let another filter go on from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.vectors import Matrix, Vectors
from flwr_robustcomp.randomness import generator

__all__ = ["Bucketing"]


@dataclass(frozen=True)
class Bucketing(Filter):
    """Replace the vectors by the means of buckets of ``size`` of them.

    Parameters
    ----------
    size : int
        Vectors in a bucket, at least 1; the last may hold fewer.
    seed : int
        Of the lot.

    Notes
    -----
    Karimireddy et al. 2022, Algorithm 1. With f Byzantine vectors up to f buckets are spoiled, so what follows must expect
    the same ``trim`` among fewer vectors.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Bucketing, GeometricMedian, Vectors, chain
    >>> x = np.array([[1.0]] * 8 + [[-9.0]])
    >>> (chain([Bucketing(trim=1), GeometricMedian(trim=1)], Vectors.of_gram(x @ x.T)) @ x).round(2)
    array([1.])
    """

    size: int = 2
    seed: int = 0

    name: ClassVar[str] = "bucketing"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.size, int) and self.size >= 1, "size", self.size, "an integer, at least 1")

    def left(self, m: int, trim: int) -> int:
        """Return ceil(m / size)."""
        return -(-m // self.size)

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Average."""
        m = len(vectors)
        order = generator(self.seed, "bucketing").permutation(m)
        bucket = np.arange(m) // self.size  # of each place in the order
        means = np.zeros((int(bucket[-1]) + 1, m))
        means[bucket, order] = 1.0
        return np.asarray(means / means.sum(axis=1, keepdims=True))
