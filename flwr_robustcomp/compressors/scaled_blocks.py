"""What the compressors share that send levels in a rotated basis and a scale for each block: an exact way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.rotated import Rotated
from flwr_robustcomp.compressors.values import values_from_bytes

__all__ = ["ScaledBlocks", "runs_of_blocks", "scale_blocks"]

_RUN = 8
"""Blocks that are worked on together: 8 of 4096 doubles are a quarter of a megabyte."""

Floats = npt.NDArray[np.floating]


def runs_of_blocks(sizes: Sequence[int], most: int = _RUN) -> Iterator[tuple[int, slice, int]]:
    """Yield runs of neighbouring blocks of one size: the number of the first, the coordinates, and how many blocks.

    Examples
    --------
    >>> from flwr_robustcomp.compressors.scaled_blocks import runs_of_blocks
    >>> list(runs_of_blocks((8, 8, 8, 2), most=2))
    [(0, slice(0, 16, None), 2), (2, slice(16, 24, None), 1), (3, slice(24, 26, None), 1)]
    """
    first = start = 0
    for size, same in groupby(sizes):
        left = len(list(same))
        while left:
            count = min(left, most)
            yield first, slice(start, start + count * size), count
            first, start, left = first + count, start + count * size, left - count


def scale_blocks(y: Floats, scales: npt.NDArray[np.float64], sizes: Sequence[int]) -> Floats:
    """Multiply each block of a vector, shape (d,), by its scale, in place and in the vector's dtype; return the vector."""
    factors = scales.astype(y.dtype)
    for first, part, count in runs_of_blocks(sizes, most=len(sizes)):
        rows = y[part].reshape(count, -1)
        rows *= factors[first : first + count, None]
    return y


@dataclass(frozen=True, kw_only=True)
class ScaledBlocks(Rotated):
    """Base of compressors whose R Q(x) is, block by block, a scale times levels that are whole multiples of one number.

    The body starts with one scale a block, in the model's dtype.

    Notes
    -----
    Q(x) is decoded as c (R^T q), with q the levels and c the scale, and not as R^T (c q). The levels are small integers times a
    power of two: the sums of R^T q are exact, whatever their order, up to one root of two that is multiplied in last, and c is
    one more multiplication. So every processor, BLAS and number of threads finds the same bits.
    """

    exact_decode = True

    def decode(self, payload: Payload) -> Tensor:
        """Rotate the levels back, without rounding, and multiply each block by its scale."""
        x = self._rotate_out(self._levels(payload))
        return torch.from_numpy(scale_blocks(x, self._scales(payload), self._sizes(payload.size))).to(payload.dtype)

    def _rotated(self, payload: Payload) -> Floats:
        return scale_blocks(self._levels(payload), self._scales(payload), self._sizes(payload.size))

    def _levels(self, payload: Payload) -> Floats:
        """Return the levels in the rotated basis, shape (d,), in working precision; a copy."""
        raise NotImplementedError

    def _scale_size(self, d: int, dtype: torch.dtype) -> int:
        return len(self._sizes(d)) * dtype.itemsize

    def _scales(self, payload: Payload) -> npt.NDArray[np.float64]:
        """Return the scale of each block, shape (blocks,)."""
        packed = payload.body[: self._scale_size(payload.size, payload.dtype)]
        return values_from_bytes(packed, payload.dtype).double().numpy()

    def _codes_of(self, payload: Payload) -> bytes:
        """Return what follows the scales."""
        return payload.body[self._scale_size(payload.size, payload.dtype) :]
