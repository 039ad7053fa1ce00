"""Whole numbers in [-s, s] as bits: integers of fixed width, or the entropy coder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.compressors.entropy import decode_chunks, encode_symbols, histogram
from flwr_robustcomp.compressors.positions import Coding
from flwr_robustcomp.errors import WireError

__all__ = ["check_levels", "count_levels", "largest_levels", "read_levels", "width_of", "write_levels"]

Levels = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]

_FIXED, _ENTROPY = b"\0", b"\1"


def width_of(s: int) -> int:
    """Return ceil(log2(2 s + 1)), the bits of a level in the fixed form."""
    return (2 * s).bit_length()


def largest_levels(d: int, s: int, coding: Coding) -> int:
    """Return the most bytes that `write_levels` makes; exact for the fixed form."""
    return packed_size(d, width_of(s)) + (coding == "entropy")


def write_levels(levels: Levels, s: int, coding: Coding) -> bytes:
    """Write levels in [-s, s], shape (d,), as the symbols level + s: of fixed width, or coded if that is shorter."""
    symbols = levels + s
    if coding == "entropy":
        coded = encode_symbols(symbols)
        if len(coded) < packed_size(symbols.size, width_of(s)):
            return _ENTROPY + coded
    fixed = pack_uints(symbols.astype(np.uint32), width_of(s))
    return fixed if coding == "fixed" else _FIXED + fixed


def read_levels(body: bytes, d: int, s: int, coding: Coding) -> Iterator[tuple[int, Levels]]:
    """Read levels a part at a time: pairs of the first place and the levels from there; errors as `check_levels`."""
    if _is_coded(body, d, s, coding):
        for start, symbols in decode_chunks(body[1:], d, 2 * s + 1):
            yield start, symbols - np.int32(s)
        return
    packed = body[1:] if coding == "entropy" else body
    yield 0, unpack_uints(packed, d, width_of(s)).astype(np.int32) - np.int32(s)


def count_levels(body: bytes, d: int, s: int, coding: Coding) -> tuple[Counts, Counts]:
    """Return the levels that occur and how often; what is entropy-coded need not be decoded for that."""
    if _is_coded(body, d, s, coding):
        low, counts, _ = histogram(body[1:], d, 2 * s + 1)
        low -= s
    else:
        levels = np.concatenate([part for _, part in read_levels(body, d, s, coding)])
        low, counts = int(levels.min()), np.bincount(levels - levels.min())
    present = np.flatnonzero(counts)
    return present + low, counts[present]


def check_levels(body: bytes, d: int, s: int, coding: Coding) -> Iterator[tuple[int, Levels]]:
    """Read levels as `read_levels` does; at the end all of them were what `write_levels` makes of some vector.

    Raises
    ------
    WireError
        If they are not, after the last part at the latest.
    """
    coded = _is_coded(body, d, s, coding)
    if coded and len(body) > packed_size(d, width_of(s)):
        raise WireError("the entropy-coded form is longer than the fixed one")
    for start, levels in read_levels(body, d, s, coding):
        if not coded:
            if int(levels.max()) > s:
                raise WireError(f"levels must lie in [-{s}, {s}]")
            if not padding_is_zero(body, d * width_of(s)):
                raise WireError("padding bits must be zero")
            if coding == "entropy" and write_levels(levels, s, coding) != body:
                raise WireError("the fixed form is longer than the entropy-coded one")
        yield start, levels


def _is_coded(body: bytes, d: int, s: int, coding: Coding) -> bool:
    """Whether the levels are entropy-coded."""
    if coding == "fixed":
        return False
    exact = len(body) == largest_levels(d, s, coding)
    if body[:1] not in (_FIXED, _ENTROPY) or (body[:1] == _FIXED and not exact):
        raise WireError("the form of the levels must be 0 or 1, and have the length that goes with it")
    return body[:1] == _ENTROPY
