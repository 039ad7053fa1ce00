"""The randomised Hadamard rotation of R^d: orthogonal for every d, a function of (seed, round) alone.

The vector is cut into blocks whose sizes are powers of two, the largest first and none above `MAX_BLOCK`; the rotation of a
block x of B coordinates is R x = H (s * x) / sqrt(B), with s random signs (`randomness.random_signs`) and H the Sylvester-
Hadamard matrix H_ij = (-1)^popcount(i & j). No block is padded, so no bit is sent for coordinates that are not there.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.one_slot import OneSlot
from flwr_robustcomp.randomness import random_signs

__all__ = ["MAX_BLOCK", "block_sizes", "hadamard", "largest_block", "rotate", "unrotate"]

MAX_BLOCK = 4096
"""The largest block: 4096 = 64 * 64, two products with a matrix of 64 rows that stays in the first-level cache."""

Floats = npt.NDArray[np.floating]


def largest_block(d: int) -> int:
    """Return the size of the first block of d coordinates."""
    return min(MAX_BLOCK, 1 << (d.bit_length() - 1))


@functools.lru_cache(maxsize=256)
def block_sizes(d: int) -> tuple[int, ...]:
    """Return the sizes of the blocks of d coordinates: `MAX_BLOCK` as often as it fits, then the binary digits of the rest."""
    full, rest = divmod(d, MAX_BLOCK)
    return (MAX_BLOCK,) * full + tuple(1 << k for k in range(rest.bit_length() - 1, -1, -1) if rest >> k & 1)


def rotate(x: Floats, seed: int, round_: int) -> Floats:
    """Return R x, shape (d,), in the dtype of x."""
    return _each_block(x * _signs(seed, round_, x.size))


def unrotate(y: Floats, seed: int, round_: int) -> Floats:
    """Return R^T y, the inverse, shape (d,), in the dtype of y; H is symmetric, so only the signs change place."""
    return _each_block(y) * _signs(seed, round_, y.size)


def hadamard(rows: Floats) -> Floats:
    """Return H x / sqrt(B) for each row x, shape (n, B), B a power of two.

    Notes
    -----
    Split the index j = h b + l with b = 2^floor(log2(B) / 2): popcount(i & j) is the sum over both parts, so H_B
    is the Kronecker product of H_(B/b) and H_b, and H x is H_(B/b) X H_b with x read as a matrix X of B/b rows. Two products
    with small dense matrices do 2 sqrt(B) multiplications a coordinate against the butterfly's log2(B) additions, and are
    several times as fast all the same: the butterfly passes log2(B) times over memory, the products run in BLAS.

    *The same on every processor?* BLAS adds in the order of the processor, so that the last bits of H x differ between kernels:
    by at most about 2 sqrt(B) u ||x|| with u = 2^-24 or 2^-53, in practice by a few u. An order of our own means the butterfly,
    which was tried and is several times slower. Two things make the difference harmless. All that is added up was multiplied
    by powers of two alone, and a root of two comes last: where the entries of x are whole multiples of one number, of few
    bits, every order gives the same sum. The golden bytes are such, and hold for every kernel. And no decision rests on it:
    norms and inner products come from what was sent, and a server rotates only the sum of what it has accepted.
    """
    n, size = rows.shape
    bits = size.bit_length() - 1
    low = 1 << bits // 2
    high = size // low
    # The norm is divided out first: no intermediate sum is then larger than ||x||.
    right = np.matmul(rows.reshape(n * high, low), _sylvester(low, 1.0 / high, rows.dtype))  # (n * high, low)
    both: Floats = np.matmul(_sylvester(high, 1.0, rows.dtype), right.reshape(n, high, low))
    if bits % 2:
        both *= rows.dtype.type(math.sqrt(2.0))
    return both.reshape(n, size)


@functools.lru_cache(maxsize=64)
def _sylvester(n: int, scale: float, dtype: np.dtype[np.floating]) -> Floats:
    """Return the Hadamard matrix of n rows, times a scale."""
    index = np.arange(n)
    matrix: Floats = (scale * (1.0 - 2.0 * (np.bitwise_count(index[:, None] & index) & 1))).astype(dtype)
    return matrix


def _each_block(x: Floats) -> Floats:
    """Return every block multiplied by its H / sqrt(B); the full blocks in one call."""
    out, start = np.empty_like(x), 0
    for size in dict.fromkeys(block_sizes(x.size)):
        stop = start + (x.size // MAX_BLOCK * size if size == MAX_BLOCK else size)
        out[start:stop] = hadamard(x[start:stop].reshape(-1, size)).reshape(-1)
        start = stop
    return out


_SIGNS: OneSlot[dict[int, npt.NDArray[np.int8]]] = OneSlot()


def _signs(seed: int, round_: int, d: int) -> npt.NDArray[np.int8]:
    """Return the signs of a round, drawn once for each size; one slot, because the nodes of a process follow each other."""
    known = _SIGNS.get([], (seed, round_), dict)
    if d not in known:
        known[d] = random_signs(seed, round_, d)
    return known[d]
