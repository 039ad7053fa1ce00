"""Inner products of packed vectors with one dense vector, in double precision and bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from flwr_robustcomp.compressors.bits import bitmap_rows, packed_size
from flwr_robustcomp.compressors.values import as_numpy

__all__ = ["dense_dots", "entry_dots", "sign_dots", "widened"]

_COLUMNS = 1 << 16
"""Coordinates that are widened to double precision at a time."""

_BITS = 128
"""Bytes of each bitmap that are expanded at a time, as in `bits.accumulate_signs`."""

_ROWS = 64
"""Bitmaps that are expanded side by side: 64 x 1024 doubles, half a megabyte."""

Doubles = npt.NDArray[np.float64]


def widened(x: Tensor) -> Doubles:
    """Return a vector, shape (d,), as float64; shared with the tensor where it is float64 already."""
    return as_numpy(x.detach().cpu().reshape(-1)).astype(np.float64, copy=False)


def dense_dots(rows: Iterable[npt.NDArray[np.floating]], x: Doubles) -> Doubles:
    """Return the inner product of each of m vectors, shape (d,), with x; one vector is in memory at a time.

    Parameters
    ----------
    rows : iterable of numpy.ndarray, shape (d,)
        m of them, decoded as they are asked for.
    x : numpy.ndarray, shape (d,), float64
        The dense vector.

    Returns
    -------
    numpy.ndarray, shape (m,), float64
        Products and sums are of doubles: off by a few 2^-53 times ||Q_i|| ||x||.
    """
    found = []
    for row in rows:
        parts = (slice(start, start + _COLUMNS) for start in range(0, x.size, _COLUMNS))
        found.append(sum(float(row[part].astype(np.float64, copy=False) @ x[part]) for part in parts))
    return np.array(found, np.float64)


def entry_dots(entries: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]], x: Doubles) -> Doubles:
    """Return the inner product of each of m sparse vectors with x, shape (m,), from pairs of positions and values."""
    return np.array([float(values.astype(np.float64) @ x[positions]) for positions, values in entries], np.float64)


def sign_dots(bitmaps: Sequence[bytes], x: Doubles, sizes: Sequence[int]) -> Doubles:
    """Return the inner products of m packed sign vectors with x, block by block of coordinates.

    Parameters
    ----------
    bitmaps : sequence of bytes, m of them
        Each ceil(d / 8) bytes; bit 1 stands for +1, bit 0 for -1.
    x : numpy.ndarray, shape (d,), float64
        The dense vector.
    sizes : sequence of int, n of them
        The blocks' sizes, which add up to d; as for `bits.accumulate_block_signs`.

    Returns
    -------
    numpy.ndarray, shape (m, n), float64
        One number for each vector and block.

    Notes
    -----
    <s, x> = 2 sum_j b_j x_j - sum_j x_j with bits b in {0, 1}: a product of expanded bits with x, over columns that stay in a
    core's cache. Memory beyond the bitmaps is that of 64 x 1024 doubles.
    """
    found = np.empty((len(bitmaps), len(sizes)))
    for first in range(0, len(bitmaps), _ROWS):
        group = bitmaps[first : first + _ROWS]
        rows = bitmap_rows(group)
        start = 0
        for column, size in enumerate(sizes):
            found[first : first + _ROWS, column] = _block(rows, x, start, size)
            start += size
    return found


def _block(rows: npt.NDArray[np.uint8], x: Doubles, start: int, size: int) -> Doubles:
    total = np.zeros(len(rows))
    skipped = start % 8  # only a block of fewer than eight coordinates starts within a byte
    for byte in range(start // 8, packed_size(start + size), _BITS):
        block = np.ascontiguousarray(rows[:, byte : min(byte + _BITS, packed_size(start + size))])
        bits = np.unpackbits(block, axis=1, bitorder="little")[:, skipped:]
        begin = 8 * byte + skipped
        part = x[begin : min(start + size, 8 * (byte + _BITS))]
        total += bits[:, : part.size].astype(np.float64) @ part
    return np.asarray(2 * total - x[start : start + size].sum())
