"""Inner products of sign vectors with a scale for each block, from bitmaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import bitmap_rows, hamming_distances, packed_size
from flwr_robustcomp.compressors.sums import total

__all__ = ["sign_block_products"]

_WORDS = 2048
"""Words of each bitmap that are compared at a time: 3 MB for 200 vectors."""

Floats = npt.NDArray[np.float64]


def sign_block_products(bitmaps: Sequence[bytes], scales: Floats, sizes: Sequence[int]) -> Floats:
    """Return the inner products of m vectors over {-c, c}, with a scale c for each vector and block.

    Parameters
    ----------
    bitmaps : sequence of bytes, m of them
        Where the ones are, ceil(d / 8) bytes each; padding is zero.
    scales : numpy.ndarray, shape (m, n)
        Of n blocks.
    sizes : sequence of int, n of them
        Coordinates of the blocks, which lie end to end.

    Returns
    -------
    numpy.ndarray, shape (m, m), float64
        Symmetric.

    Notes
    -----
    In a block of B coordinates <x_i, x_j> = c_i c_j (B - 2 Hamming distance). The blocks of a rotation have one size but the
    last few, which together are smaller than one of them. Those are expanded.
    """
    if len(sizes) == 1:
        return np.asarray(np.outer(scales[:, 0], scales[:, 0]) * (sizes[0] - 2.0 * hamming_distances(bitmaps)))
    size = sizes[0]
    alike = next((n for n, other in enumerate(sizes) if other != size), len(sizes)) if size % 64 == 0 else 0
    rows = bitmap_rows(bitmaps)
    products = _alike(rows[:, : alike * size // 8], scales[:, :alike], size) + _expanded(rows, scales, sizes, alike)
    return np.asarray(np.triu(products) + np.triu(products, 1).T)


def _alike(rows: npt.NDArray[np.uint8], scales: Floats, size: int) -> Floats:
    """Return the products over blocks of one size, the upper triangle of shape (m, m)."""
    m, n = scales.shape
    products = np.zeros((m, m))
    words = rows.view(np.uint64) if rows.flags.c_contiguous else np.ascontiguousarray(rows).view(np.uint64)
    width, step = size // 64, max(1, _WORDS * 64 // size)
    for first in range(0, n, step):
        weights = scales[:, first : first + step]
        block = np.ascontiguousarray(words[:, first * width : (first + step) * width])
        for i in range(m):
            found = np.bitwise_count(block[i:] ^ block[i])
            differ = found.reshape(m - i, -1, width).sum(axis=2, dtype=np.uint16)
            products[i, i:] += total(((size - 2.0 * differ) * weights[i:] * weights[i]).T)
    return products


def _expanded(rows: npt.NDArray[np.uint8], scales: Floats, sizes: Sequence[int], first: int) -> Floats:
    """Return the products over the blocks from a number on, shape (m, m)."""
    start, stop = sum(sizes[:first]), sum(sizes)
    bits = np.unpackbits(rows[:, start // 8 : packed_size(stop)], axis=1, bitorder="little")[:, start % 8 :]
    values = (2.0 * bits[:, : stop - start] - 1.0) * np.repeat(scales[:, first:], sizes[first:], axis=1)
    return np.asarray(values @ values.T)
