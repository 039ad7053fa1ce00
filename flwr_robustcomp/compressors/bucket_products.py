"""Inner products of ternary vectors with a scale for each bucket, from bitmaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import ternary_products
from flwr_robustcomp.compressors.products import RUN
from flwr_robustcomp.compressors.sums import total

__all__ = ["bucket_products"]

_CELLS = 512
"""Cells of each bitmap that are compared at a time: they stay in a core's cache, as in `bits.ternary_products`."""


def bucket_products(
    plus: Sequence[bytes],
    minus: Sequence[bytes],
    scales: npt.NDArray[np.float64],
    bucket: int | None,
    chosen: npt.NDArray[np.intp] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the inner products of m vectors over {-c, 0, c}, with a scale c for each vector and bucket.

    Parameters
    ----------
    plus, minus : sequence of bytes, m of each
        Bitmaps of where the ones and the minus ones are, with zero padding; no bit is set in both.
    scales : numpy.ndarray, shape (m, n)
        Of n buckets.
    bucket : int, optional
        Size of a bucket, a power of two from 8 on; None for one bucket.
    chosen : numpy.ndarray of int, optional
        Look at these runs of `RUN` coordinates only. The result is not scaled up.

    Returns
    -------
    numpy.ndarray, shape (m, m), float64
        Symmetric.

    Notes
    -----
    Agreements less disagreements are counted in cells, which lie within one bucket: words of 64 bits, or bytes where buckets
    are shorter. The counts of a bucket are whole numbers; each is multiplied by the two scales once.
    """
    m, n = scales.shape
    if n == 1 or bucket is None:
        return np.outer(scales[:, 0], scales[:, 0]) * ternary_products(plus, minus, chosen)
    width = RUN if bucket >= RUN else 8
    ones, negative = _cells(plus, width), _cells(minus, width)
    cells = np.arange(ones.shape[1])
    if chosen is not None:
        cells = (np.sort(chosen)[:, None] * (RUN // width) + np.arange(RUN // width)).reshape(-1)
        cells = cells[cells < ones.shape[1]]
    products = np.zeros((m, m))
    for start in range(0, cells.size, _CELLS):
        part = cells[start : start + _CELLS]
        buckets, begins = np.unique(part * width // bucket, return_index=True)
        signs, weights = negative[:, part], scales[:, buckets]
        present = ones[:, part] | signs
        for i in range(m):
            both = present[i:] & present[i]
            counts = np.bitwise_count(both).astype(np.int32)
            counts -= 2 * np.bitwise_count(both & (signs[i:] ^ signs[i])).astype(np.int32)
            products[i, i:] += total((np.add.reduceat(counts, begins, axis=1) * weights[i:] * weights[i]).T)
    return np.asarray(products + np.triu(products, 1).T)


def _cells(bitmaps: Sequence[bytes], width: int) -> npt.NDArray[np.unsignedinteger]:
    """Return bitmaps as integers of ``width`` bits, shape (m, cells)."""
    rows = np.frombuffer(b"".join(bitmaps), np.uint8).reshape(len(bitmaps), -1)
    return rows if width == 8 else np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
