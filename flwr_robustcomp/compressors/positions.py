"""k positions out of d, near log2 C(d, k) bits.

Three codes, of which the encoder takes the smallest:

- *fixed*: a bitmap of d bits, or k numbers of ceil(log2 d) bits, whichever is smaller for this k and d;
- *Rice*: gaps g between positions as quotients g >> r in unary, gathered in one bitmap, and remainders of r bits;
- *entropy*: the bitmap through the entropy coder, which needs no table: k and d say how many ones and zeros there are.

With theta = 2^r k/d a Rice code spends log2(theta d/k) + 1 / (1 - exp(-theta)) bits on a position of a random set of small
density, at best 0.03 and at worst 0.12 bits above the log2(e d/k) of C(d, k): within 1.4 % below a density of 1/128. Above,
where a position costs but few bits, the entropy code takes over; it visits all d coordinates, and is tried there only.
(Elias-Fano stores the high bits of the positions in place of those of the gaps: 2 + log2(d/k) bits, 0.56 above.)
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import (
    pack_bits,
    pack_uints,
    packed_size,
    padding_is_zero,
    unpack_bits,
    unpack_uints,
)
from flwr_robustcomp.compressors.entropy import decode_ranks, encode_ranks
from flwr_robustcomp.errors import WireError, require

__all__ = ["Coding", "check_coding", "fixed_size", "largest_size", "read_positions", "write_positions"]

Coding = Literal["entropy", "fixed"]
"""The smallest form that the encoder finds, or one of known size that is faster to write and to read."""

Positions = npt.NDArray[np.int64]

_FIXED, _RICE, _ENTROPY = 0, 1, 2
_SPARSE = 128  # one position in this many coordinates, or fewer, is left to the Rice code


def check_coding(coding: str) -> None:
    """Raise unless ``coding`` is a `Coding`."""
    require(coding in get_args(Coding), "coding", coding, f"one of {', '.join(get_args(Coding))}")


def fixed_size(k: int, d: int) -> int:
    """Return the bytes of the fixed form."""
    return packed_size(d) if _is_bitmap(k, d) else packed_size(k, _width(d))


def largest_size(k: int, d: int, coding: Coding) -> int:
    """Return the most bytes that `write_positions` makes; exact for the fixed form."""
    return fixed_size(k, d) + (coding == "entropy")


def write_positions(index: Positions, d: int, coding: Coding) -> bytes:
    """Write ascending distinct positions below d, shape (k,), k >= 1; before all but fixed ones a byte names the code."""
    fixed = _write_fixed(index, d)
    if coding == "fixed":
        return fixed
    number, data = _FIXED, fixed
    rice = _write_rice(index, d)
    if len(rice) < len(data):
        number, data = _RICE, rice
    if index.size * _SPARSE > d > index.size:
        mask = np.zeros(d, np.int32)
        mask[index] = 1
        entropy = encode_ranks(mask, np.array([d - index.size, index.size]))
        if len(entropy) < len(data):
            number, data = _ENTROPY, entropy
    return bytes([number]) + data


def read_positions(data: bytes, k: int, d: int, coding: Coding) -> Positions:
    """Read k positions below d.

    Returns
    -------
    numpy.ndarray, shape (k,), int64
        Ascending, distinct.

    Raises
    ------
    WireError
        If the bytes are not what `write_positions` makes of some k positions. Nothing larger than O(d) is allocated.
    """
    if coding == "fixed":
        return _read_fixed(data, k, d)
    if not 1 <= len(data) <= largest_size(k, d, coding):
        raise WireError(f"positions must take 1 to {largest_size(k, d, coding)} bytes, got {len(data)}")
    if data[0] == _FIXED:
        index = _read_fixed(data[1:], k, d)
    elif data[0] == _RICE:
        index = _read_rice(data[1:], k, d)
    elif data[0] == _ENTROPY and k < d:
        chunks = decode_ranks(data[1:], np.array([d - k, k]))
        index = np.concatenate([start + np.flatnonzero(ones) for start, ones in chunks])
    else:
        raise WireError(f"the code of positions must be 0, 1 or 2, got {data[0]}")
    _check(index, k, d)
    if not _is_canonical(index, data, d):
        raise WireError("positions are not in their canonical code")
    return index


def _is_canonical(index: Positions, data: bytes, d: int) -> bool:
    """Whether these bytes, of which the positions were read, are the ones that a writer makes."""
    if data[0] != _ENTROPY:
        return write_positions(index, d, "entropy") == data
    # Words that end in an empty state are the only ones of these symbols: it remains to see that no other code is as short.
    shortest = min(fixed_size(index.size, d), len(_write_rice(index, d)))
    return index.size * _SPARSE > d and len(data) - 1 < shortest


def _check(index: Positions, k: int, d: int) -> None:
    if index.size != k or index[-1] >= d or bool((np.diff(index) <= 0).any()):
        raise WireError(f"positions must be {k} ascending distinct numbers below {d}")


def _is_bitmap(k: int, d: int) -> bool:
    return d <= k * _width(d)


def _width(d: int) -> int:
    """Bits of a position below d."""
    return max(1, (d - 1).bit_length())


def _write_fixed(index: Positions, d: int) -> bytes:
    if not _is_bitmap(index.size, d):
        return pack_uints(index.astype(np.uint32), _width(d))
    mask = np.zeros(d, np.bool_)
    mask[index] = True
    return pack_bits(mask)


def _read_fixed(data: bytes, k: int, d: int) -> Positions:
    bitmap = _is_bitmap(k, d)
    if len(data) != fixed_size(k, d) or not padding_is_zero(data, d if bitmap else k * _width(d)):
        raise WireError("positions are truncated, or padding bits are not zero")
    if bitmap:
        index = np.flatnonzero(unpack_bits(data, d)).astype(np.int64)
    else:
        index = unpack_uints(data, k, _width(d)).astype(np.int64)
    _check(index, k, d)
    return index


def _rice_parameter(k: int, d: int) -> int:
    """Return r, near log2(ln 2 * d/k), where a Rice code of geometric gaps is shortest."""
    return max(0, round(math.log2(max(1.0, math.log(2) * d / k))))


def _write_rice(index: Positions, d: int) -> bytes:
    k, r = index.size, _rice_parameter(index.size, d)
    gaps = np.diff(index, prepend=-1) - 1
    ends = np.cumsum(gaps >> r) + np.arange(k)  # place of each unary code's closing one
    unary = np.zeros(int(ends[-1]) + 1, np.bool_)
    unary[ends] = True
    return pack_bits(unary) + (pack_uints((gaps & ((1 << r) - 1)).astype(np.uint32), r) if r else b"")


def _read_rice(data: bytes, k: int, d: int) -> Positions:
    r = _rice_parameter(k, d)
    low = packed_size(k, r)
    if len(data) <= low:
        raise WireError("truncated positions")
    ends = np.flatnonzero(unpack_bits(data[: len(data) - low], 8 * (len(data) - low)))
    if ends.size != k:
        raise WireError(f"positions must be {k}, got {ends.size}")
    quotients = np.diff(ends, prepend=-1) - 1
    gaps = quotients.astype(np.int64) << r
    if r:
        gaps |= unpack_uints(data[len(data) - low :], k, r)
    return np.cumsum(gaps + 1) - 1
