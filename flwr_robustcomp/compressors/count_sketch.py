"""A count sketch: a few numbers of a vector from which its inner products with others can be estimated."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import hashed_places

__all__ = ["CountSketch"]

_BLOCK = 1 << 18
"""Coordinates at a time: what is made of them beside the map stays small."""


@dataclass(frozen=True)
class CountSketch:
    """The linear map S from R^d to R^k that adds each coordinate, with a sign of its own, to a bucket of its own.

    Parameters
    ----------
    d : int
        Coordinates of the vectors, at least 1.
    size : int
        The most numbers to keep of a vector, from 1 to 2^31.
    seed : int
        Of the buckets and signs, from 0. Equal seeds give equal maps, on every machine.

    Notes
    -----
    Charikar, Chen and Farach-Colton 2002, section 3, with one row; as a random projection in Weinberger et al. 2009, section 3
    ("feature hashing"). With h(j) the bucket and s(j) the sign of coordinate j, (S x)_b is the sum of s(j) x_j over h(j) = b.

    *Unbiased:* <S x, S y> is the sum of s(i) s(j) x_i y_j over all i, j in one bucket. E[s(i) s(j)] = 0 unless i = j, which
    leaves <x, y>.

    *Variance:* of the products with i != j, each there with probability 1/k, only x_i y_j with itself and with x_j y_i have an
    expectation. So Var <S x, S y> = (1/k) sum_{i != j} (x_i^2 y_j^2 + x_i x_j y_i y_j) <= (||x||^2 ||y||^2 + <x, y>^2) / k.
    With k = 4,096 the standard error of a cosine near zero is at most 1/64.

    All of this is over the draw of h and s, for vectors that do not depend on it: who knows the seed can send a vector that S
    maps to zero, or anywhere.

    *Exact* where ``size`` >= d: nothing is gained by adding coordinates up then, and S is the identity.

    *Cost:* one addition per coordinate, and the map: 2 bytes per coordinate up to a size of 2^15, 4 above. The last two maps
    that were used are kept.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.compressors.count_sketch import CountSketch
    >>> x, S = np.random.default_rng(0).normal(size=50_000), CountSketch(50_000, 4096, seed=1)
    >>> S(x).shape, bool(abs(np.linalg.norm(S(x)) / np.linalg.norm(x) - 1) < 0.05)
    ((4096,), True)
    """

    d: int
    size: int
    seed: int

    def __post_init__(self) -> None:
        require(self.d >= 1, "d", self.d, "at least 1")
        require(1 <= self.size <= 2**31, "size", self.size, "in [1, 2**31]")
        require(self.seed >= 0, "seed", self.seed, "an integer from 0")

    @property
    def length(self) -> int:
        """How many numbers it makes of a vector: k."""
        return min(self.size, self.d)

    def __call__(self, x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return S x, shape (k,), of a vector, shape (d,)."""
        if self.length == self.d:
            return x.astype(np.float64)
        places, sums = _places(self.seed, self.d, self.size), np.zeros(2 * self.size)
        for start in range(0, self.d, _BLOCK):
            block = slice(start, start + _BLOCK)
            sums += np.bincount(places[block], weights=x[block], minlength=sums.size)
        return sums[: self.size] - sums[self.size :]


@functools.lru_cache(maxsize=2)
def _places(seed: int, d: int, size: int) -> npt.NDArray[np.unsignedinteger]:
    """Return the bucket of each coordinate, shape (d,), plus ``size`` where its sign is negative."""
    return hashed_places(seed, 2 * size, d)
