"""Vectors over {-1, 0, 1} as bits: two bitmaps, or the entropy coder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import (
    accumulate_block_signs,
    accumulate_signs,
    count_bits,
    pack_bits,
    packed_size,
    padding_is_zero,
    unpack_bits,
)
from flwr_robustcomp.compressors.buckets import bucket_sizes, count_non_zeros, spread
from flwr_robustcomp.compressors.entropy import decode_chunks, encode_symbols, histogram
from flwr_robustcomp.compressors.positions import Coding
from flwr_robustcomp.errors import WireError

__all__ = [
    "accumulate_ternary",
    "bitmaps_of",
    "check_ternary",
    "largest_ternary",
    "non_zeros_of",
    "planes_of",
    "read_ternary",
    "write_ternary",
]

Signs = npt.NDArray[np.int8]

_FIXED, _ENTROPY = b"\0", b"\1"


def largest_ternary(d: int, coding: Coding) -> int:
    """Return the most bytes that `write_ternary` makes; exact for the fixed form."""
    return 2 * packed_size(d) + (coding == "entropy")


def write_ternary(plus: npt.NDArray[np.bool_], minus: npt.NDArray[np.bool_], coding: Coding) -> bytes:
    """Write a vector, given where its ones and minus ones are, each of shape (d,): two bitmaps, or coded if shorter."""
    fixed = pack_bits(plus) + pack_bits(minus)
    if coding == "fixed":
        return fixed
    coded = encode_symbols(1 + plus.astype(np.int32) - minus)
    return _ENTROPY + coded if len(coded) < len(fixed) else _FIXED + fixed


def read_ternary(body: bytes, d: int, coding: Coding) -> Iterator[tuple[int, Signs]]:
    """Read a vector a part at a time: pairs of the first place and the entries from there; errors as `check_ternary`."""
    planes = bitmaps_of(body, d, coding)
    if planes is None:
        for start, symbols in decode_chunks(body[1:], d, 3):
            yield start, (symbols - 1).astype(np.int8)
        return
    plus, minus = (unpack_bits(plane, d).astype(np.int8) for plane in planes)
    yield 0, plus - minus


def non_zeros_of(body: bytes, d: int, coding: Coding, bucket: int | None = None) -> npt.NDArray[np.int64]:
    """Return how many entries of each bucket are not zero, shape (n,); of one bucket from the counts or the bits alone."""
    planes = bitmaps_of(body, d, coding)
    if bucket is None or d <= bucket:
        if planes is None:
            low, counts, _ = histogram(body[1:], d, 3)
            return np.array([d - int(counts[1 - low]) if low <= 1 < low + counts.size else d])
        return np.array([sum(map(count_bits, planes))])
    if planes is None:
        return count_non_zeros(read_ternary(body, d, coding), d, bucket)
    plus, minus = (np.frombuffer(plane, np.uint8) for plane in planes)
    counts = np.bitwise_count(plus | minus).astype(np.int64)  # no bit is set in both
    return np.asarray(np.add.reduceat(counts, np.arange(0, len(planes[0]), bucket // 8)), np.int64)


def check_ternary(body: bytes, d: int, coding: Coding) -> None:
    """Raise `WireError` unless the bytes are what `write_ternary` makes of some vector."""
    planes = bitmaps_of(body, d, coding)
    if planes is None:
        for _ in decode_chunks(body[1:], d, 3):
            pass
        if len(body) > 2 * packed_size(d):
            raise WireError("the entropy-coded form is longer than the fixed one")
        return
    if not all(padding_is_zero(plane, d) for plane in planes):
        raise WireError("padding bits must be zero")
    plus, minus = (np.frombuffer(plane, np.uint8) for plane in planes)
    if (plus & minus).any():
        raise WireError("an entry cannot be 1 and -1")
    ones, minus_ones = (unpack_bits(plane, d).astype(np.bool_) for plane in planes)
    if coding == "entropy" and write_ternary(ones, minus_ones, coding) != body:
        raise WireError("the fixed form is longer than the entropy-coded one")


def accumulate_ternary(
    out: npt.NDArray[np.floating],
    bodies: Sequence[bytes],
    weights: npt.NDArray[np.float64],
    coding: Coding,
    bucket: int | None = None,
) -> None:
    """Add the weighted sum of m ternary vectors, shape (d,), to ``out`` in place, with a weight for each vector and bucket.

    Bitmaps are added as signs are, with w b_plus - w b_minus = (w/2) (2 b_plus - 1) - (w/2) (2 b_minus - 1); what is
    entropy-coded is added as it is decoded, a part at a time. No vector becomes dense.

    Parameters
    ----------
    out : numpy.ndarray, shape (d,), float32 or float64
        The accumulator.
    bodies : sequence of bytes, m of them
        As `write_ternary` makes them.
    weights : numpy.ndarray, shape (m, n)
        Of n buckets.
    coding : {"entropy", "fixed"}
        Of the bodies.
    bucket : int, optional
        Size of a bucket; by default there is one.
    """
    bitmaps: list[bytes] = []
    halves: list[npt.NDArray[np.float64]] = []
    for body, row in zip(bodies, weights, strict=True):
        planes = bitmaps_of(body, out.size, coding)
        if planes is not None:
            bitmaps += planes
            halves += [row / 2, -row / 2]
            continue
        narrow = row.astype(out.dtype)
        for start, signs in read_ternary(body, out.size, coding):
            stop = start + signs.size
            out[start:stop] += signs * spread(narrow, bucket, start, stop)
    if bitmaps and weights.shape[1] == 1:
        accumulate_signs(out, bitmaps, np.array(halves)[:, 0])
    elif bitmaps:
        accumulate_block_signs(out, bitmaps, np.array(halves), bucket_sizes(out.size, bucket).tolist())


def planes_of(body: bytes, d: int, coding: Coding) -> tuple[bytes, bytes]:
    """Return the bitmaps of ones and of minus ones, ceil(d / 8) bytes each, whatever the form; errors as `check_ternary`."""
    planes = bitmaps_of(body, d, coding)
    if planes is not None:
        return planes
    signs = np.concatenate([part for _, part in read_ternary(body, d, coding)])
    return pack_bits(signs > 0), pack_bits(signs < 0)


def bitmaps_of(body: bytes, d: int, coding: Coding) -> tuple[bytes, bytes] | None:
    """Return the bitmaps of ones and of minus ones, or None if the symbols are entropy-coded; errors as `check_ternary`."""
    if coding == "entropy":
        if body[:1] == _ENTROPY:
            return None
        if body[:1] != _FIXED:
            raise WireError("the form of ternary symbols must be 0 or 1")
        body = body[1:]
    size = packed_size(d)
    if len(body) != 2 * size:
        raise WireError(f"two bitmaps must take {2 * size} bytes, got {len(body)}")
    return body[:size], body[size:]
