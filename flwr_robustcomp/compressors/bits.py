"""Packing small integers to bits, and adding packed signs without unpacking them all.

Bit order is little-endian throughout: coordinate j of a bitmap is bit ``j % 8`` of byte ``j // 8``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["accumulate_signs", "pack_bits", "pack_uints", "packed_size", "padding_is_zero", "unpack_bits", "unpack_uints"]

# Bytes of each bitmap that are expanded at a time. m x 128 bytes expand to m x 1024 float32, about 0.8 MB for m = 200: it
# stays in a core's second-level cache, and 128 measured fastest of 64 ... 4096 (docs/performance.md).
_BLOCK = 128


def packed_size(count: int, width: int = 1) -> int:
    """Bytes that ``count`` integers of ``width`` bits take."""
    return (count * width + 7) // 8


def padding_is_zero(body: bytes, bits: int) -> bool:
    """Whether the unused high bits of the last byte are zero, as in every canonical encoding."""
    used = bits % 8
    return used == 0 or body[-1] >> used == 0


def pack_bits(mask: npt.NDArray[np.bool_]) -> bytes:
    """Pack booleans, shape (d,), into ceil(d / 8) bytes."""
    return np.packbits(mask, bitorder="little").tobytes()


def unpack_bits(body: bytes, count: int) -> npt.NDArray[np.uint8]:
    """Unpack ``count`` bits into zeros and ones, shape (count,)."""
    return np.unpackbits(np.frombuffer(body, np.uint8), count=count, bitorder="little")


def pack_uints(values: npt.NDArray[np.unsignedinteger], width: int) -> bytes:
    """Pack integers below 2**width, shape (n,), least significant bit first, into ceil(n * width / 8) bytes."""
    little = np.ascontiguousarray(values).astype("<u4" if width > 8 else "u1", copy=False)
    as_bytes = little.view(np.uint8).reshape(values.size, -1)  # (n, 1 or 4)
    return pack_bits(np.unpackbits(as_bytes, axis=1, bitorder="little")[:, :width].astype(np.bool_, copy=False).ravel())


def unpack_uints(body: bytes, count: int, width: int) -> npt.NDArray[np.uint32]:
    """Unpack ``count`` integers of ``width`` <= 32 bits, shape (count,)."""
    bits = unpack_bits(body, count * width).reshape(count, width)  # (count, width)
    as_bytes = np.packbits(bits, axis=1, bitorder="little")  # (count, ceil(width / 8))
    padded = np.zeros((count, 4), np.uint8)
    padded[:, : as_bytes.shape[1]] = as_bytes
    return padded.view("<u4").ravel()


def accumulate_signs(out: npt.NDArray[np.floating], bitmaps: Sequence[bytes], weights: npt.NDArray[np.floating]) -> None:
    """Add the weighted sum of packed sign vectors to ``out`` in place.

    Parameters
    ----------
    out : numpy.ndarray, shape (d,), float32 or float64
        The accumulator.
    bitmaps : sequence of bytes, m of them
        Each ceil(d / 8) bytes; bit 1 stands for +1, bit 0 for -1.
    weights : numpy.ndarray, shape (m,)
        One weight for each bitmap.

    Notes
    -----
    sum_i w_i s_i = 2 sum_i w_i b_i - sum_i w_i with bits b in {0, 1}: one matrix-vector product on bits, taken over blocks of
    columns so that the expanded bits never leave the cache. Memory: O(m) beyond the packed bits, whatever d.
    """
    rows = np.frombuffer(b"".join(bitmaps), np.uint8).reshape(len(bitmaps), -1)  # (m, ceil(d / 8))
    weights = weights.astype(out.dtype, copy=False)
    doubled, total = 2 * weights, weights.sum(dtype=np.float64).astype(out.dtype)
    for start in range(0, rows.shape[1], _BLOCK):
        block = np.ascontiguousarray(rows[:, start : start + _BLOCK])
        bits = np.unpackbits(block, axis=1, bitorder="little").astype(out.dtype)  # (m, 8 * _BLOCK)
        target = out[8 * start : 8 * (start + _BLOCK)]
        target += (doubled @ bits)[: target.size] - total
