"""Packing small integers to bits, and adding packed signs without unpacking them all.

Bit order is little-endian throughout: coordinate j of a bitmap is bit ``j % 8`` of byte ``j // 8``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "accumulate_block_signs",
    "accumulate_signs",
    "bitmap_rows",
    "count_bits",
    "hamming_distances",
    "look_up",
    "pack_bits",
    "pack_codes",
    "pack_uints",
    "packed_size",
    "padding_is_zero",
    "ternary_products",
    "unpack_bits",
    "unpack_uints",
]

Value = TypeVar("Value", bound=np.generic)

# Bytes of each bitmap that are expanded at a time. m x 128 bytes expand to m x 1024 float32, about 0.8 MB for m = 200: it
# stays in a core's second-level cache, and 128 measured fastest of 128, 512, 1024 and 4096.
_BLOCK = 128

# 64-bit words of each bitmap that are compared at a time: m x 512 words, 0.8 MB for m = 200, for the same reason.
_WORDS = 512
# Bitmaps that are laid side by side at a time. More would leave the cache, and copy all replies at once; what a thousand nodes
# cost is measured by benchmarks/load.py.
_ROWS = 256


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


def count_bits(body: bytes) -> int:
    """Return how many bits are set."""
    return int(np.bitwise_count(np.frombuffer(body, np.uint8)).sum())


def pack_uints(values: npt.NDArray[np.unsignedinteger], width: int) -> bytes:
    """Pack integers below 2**width, width <= 32, shape (n,), least significant bit first, into ceil(n * width / 8) bytes."""
    groups = _groups(values.size)
    padded = np.zeros((groups, 8), np.uint64)
    padded.reshape(-1)[: values.size] = values
    rows = np.zeros((groups, width), np.uint8)
    for k, first, last, shift in _places(width):
        shifted = padded[:, k] << np.uint64(shift)
        for column in range(first, last + 1):
            rows[:, column] |= (shifted >> np.uint64(8 * (column - first))).astype(np.uint8)
    return rows.tobytes()[: packed_size(values.size, width)]


def unpack_uints(body: bytes, count: int, width: int) -> npt.NDArray[np.uint32]:
    """Unpack ``count`` integers of ``width`` <= 32 bits, shape (count,)."""
    groups = _groups(count)
    rows = np.zeros((groups, width), np.uint8)
    rows.reshape(-1)[: len(body)] = np.frombuffer(body, np.uint8)
    values = np.empty((groups, 8), np.uint32)
    mask = np.uint32((1 << width) - 1)
    for k, first, last, shift in _places(width):
        value = rows[:, first].astype(np.uint32) >> np.uint32(shift)
        for column in range(first + 1, last + 1):
            value |= rows[:, column].astype(np.uint32) << np.uint32(8 * (column - first) - shift)
        values[:, k] = value & mask
    return values.reshape(-1)[:count]


def pack_codes(codes: npt.NDArray[np.uint8], width: int) -> bytes:
    """Pack bytes below 2**width, width <= 8, shape (n,), as `pack_uints` does, without widening them where width divides 8."""
    if 8 % width:
        return pack_uints(codes, width)
    padded = np.zeros((packed_size(codes.size, width), 8 // width), np.uint8)
    padded.reshape(-1)[: codes.size] = codes
    packed = padded[:, 0].copy()
    for k in range(1, 8 // width):
        packed |= padded[:, k] << np.uint8(k * width)
    return packed.tobytes()


def look_up(body: bytes, values: npt.NDArray[Value], count: int) -> npt.NDArray[Value]:
    """Return what ``count`` packed integers stand for, shape (count,), given a value for each of the 2**width, width <= 8."""
    width = values.size.bit_length() - 1
    if 8 % width:
        return values[unpack_uints(body, count, width)]
    in_byte = np.arange(256)[:, None] >> width * np.arange(8 // width) & values.size - 1  # (256, 8 / width)
    found: npt.NDArray[Value] = values[in_byte].take(np.frombuffer(body, np.uint8), axis=0).reshape(-1)[:count]
    return found


def _groups(count: int) -> int:
    """Return the groups of eight integers; eight of w bits fill exactly w bytes, so every group has the same layout."""
    return (count + 7) // 8


def _places(width: int) -> list[tuple[int, int, int, int]]:
    """Return, for each of a group's eight integers, its number, its first and last byte, and its shift in the first."""
    return [(k, k * width // 8, (k * width + width - 1) // 8, k * width % 8) for k in range(8)]


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
    columns so that the expanded bits never leave the cache. Memory beyond the bitmaps: a copy of 256 of them, and a block.

    The product runs in BLAS, in the processor's order of additions: two machines agree to about m eps sum_i |w_i|, eps that of
    ``out``, and not bit for bit. No decision follows from the sum.
    """
    for first in range(0, len(bitmaps), _ROWS):
        _add_signs(out, bitmap_rows(bitmaps[first : first + _ROWS]), weights[first : first + _ROWS])


def accumulate_block_signs(
    out: npt.NDArray[np.floating], bitmaps: Sequence[bytes], weights: npt.NDArray[np.floating], sizes: Sequence[int]
) -> None:
    """Add sums of packed sign vectors to ``out`` in place, with a weight for each vector and block of coordinates.

    Parameters
    ----------
    out : numpy.ndarray, shape (d,), float32 or float64
        The accumulator.
    bitmaps : sequence of bytes, m of them
        As in `accumulate_signs`.
    weights : numpy.ndarray, shape (m, n)
        One weight for each bitmap and block.
    sizes : sequence of int, n of them
        The blocks' sizes, which add up to d; no block of fewer than eight coordinates spans two bytes, no larger one starts
        within a byte.
    """
    for first in range(0, len(bitmaps), _ROWS):
        _add_block_signs(out, bitmap_rows(bitmaps[first : first + _ROWS]), weights[first : first + _ROWS], sizes)


def _add_block_signs(
    out: npt.NDArray[np.floating], rows: npt.NDArray[np.uint8], weights: npt.NDArray[np.floating], sizes: Sequence[int]
) -> None:
    start = 0
    for size, column in zip(sizes, weights.T, strict=True):
        block = out[start : start + size]
        if size >= 8:
            _add_signs(block, rows[:, start // 8 : packed_size(start + size)], column)
        else:
            bits = np.unpackbits(rows[:, start // 8], bitorder="little").reshape(-1, 8)  # (m, 8)
            block += (column @ (2.0 * bits - 1.0))[start % 8 : start % 8 + size].astype(out.dtype)
        start += size


def bitmap_rows(bitmaps: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Return m bitmaps of equal length as rows of bytes, shape (m, ceil(d / 8))."""
    return np.frombuffer(b"".join(bitmaps), np.uint8).reshape(len(bitmaps), -1)


def _add_signs(out: npt.NDArray[np.floating], rows: npt.NDArray[np.uint8], weights: npt.NDArray[np.floating]) -> None:
    weights = weights.astype(out.dtype, copy=False)
    doubled, total = 2 * weights, weights.sum(dtype=np.float64).astype(out.dtype)
    for start in range(0, rows.shape[1], _BLOCK):
        block = np.ascontiguousarray(rows[:, start : start + _BLOCK])
        bits = np.unpackbits(block, axis=1, bitorder="little").astype(out.dtype)  # (m, 8 * _BLOCK)
        target = out[8 * start : 8 * (start + _BLOCK)]
        target += (doubled @ bits)[: target.size] - total


def hamming_distances(bitmaps: Sequence[bytes], chosen: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.int64]:
    """Count the bits in which any two of m bitmaps of equal length differ.

    Parameters
    ----------
    bitmaps : sequence of bytes, m of them
        Padding bits, equal in all, count for nothing.
    chosen : numpy.ndarray of int, optional
        Look at these words of 64 bits only.

    Returns
    -------
    numpy.ndarray, shape (m, m), int64
        Symmetric, zero on the diagonal.

    Notes
    -----
    Exclusive or and population count on 64-bit words, over blocks of columns that stay in the cache; m (m - 1) / 2 pairs.
    Counts are added in 16 bits, which a block cannot overflow: wider sums took a third of the time, for converting.
    Matrix products on expanded bits were measured too: float32 is no faster; int8 is on processors with AMX, but torch's is
    private; bfloat16 is, and rounds its sums.
    """
    m, words = len(bitmaps), _words(bitmaps, chosen)
    distances = np.zeros((m, m), np.int64)
    most = min(_WORDS, words.shape[1])
    differ, counts = np.empty((m, most), np.uint64), np.empty((m, most), np.uint8)
    for start in range(0, words.shape[1], _WORDS):
        block = np.ascontiguousarray(words[:, start : start + _WORDS])
        width = block.shape[1]
        for i in range(m - 1):
            bits = np.bitwise_xor(block[i + 1 :], block[i], out=differ[i + 1 :, :width])
            found = np.bitwise_count(bits, out=counts[i + 1 :, :width])
            distances[i, i + 1 :] += found.sum(axis=1, dtype=np.uint16)  # at most 64 * 512
    return distances + distances.T


def ternary_products(
    plus: Sequence[bytes], minus: Sequence[bytes], chosen: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.int64]:
    """Return the inner products of m vectors over {-1, 0, 1}, shape (m, m), from bitmaps of where their 1 and -1 are.

    Parameters
    ----------
    plus, minus : sequence of bytes, m of each
        Of equal length, with zero padding; no bit is set in both.
    chosen : numpy.ndarray of int, optional
        Look at these words of 64 bits only.

    Notes
    -----
    The places where both are not zero, less twice those of them where the signs differ: two counts, as in `hamming_distances`.
    """
    m, ones, negative = len(plus), _words(plus, chosen), _words(minus, chosen)
    products = np.zeros((m, m), np.int64)
    for start in range(0, ones.shape[1], _WORDS):
        signs = np.ascontiguousarray(negative[:, start : start + _WORDS])
        present = ones[:, start : start + _WORDS] | signs
        for i in range(m):
            both = present[i:] & present[i]
            products[i, i:] += np.bitwise_count(both).sum(axis=1, dtype=np.uint16)
            both &= signs[i:] ^ signs[i]
            products[i, i:] -= 2 * np.bitwise_count(both).sum(axis=1, dtype=np.uint16).astype(np.int64)
    return np.asarray(products + np.triu(products, 1).T)


def _words(bitmaps: Sequence[bytes], chosen: npt.NDArray[np.intp] | None) -> npt.NDArray[np.uint64]:
    """Return bitmaps as words of 64 bits, shape (m, ceil(bits / 64)), or the chosen ones of them."""
    rows = np.frombuffer(b"".join(bitmaps), np.uint8).reshape(len(bitmaps), -1)
    words = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8))).view(np.uint64)
    return words if chosen is None else words[:, chosen]
