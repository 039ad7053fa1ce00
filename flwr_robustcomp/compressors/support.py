"""Which entries of a model's arrays are not zero, in few bytes where zeros have a pattern.

Zeros of an update seldom lie anywhere: a frozen array has none but zeros, an embedding has a row of them for each word that was
not seen, and an input that is always dark has a column of them. So each array, read as a matrix of its first dimension by all
others, is *all*, *none*, or *some*; *some* is given by its rows and its columns that are not zero throughout, and by the
exceptions, entries that are zero although their row and column are not. Vectors have exceptions only.

    forms, 2 bits an array | bits of rows and columns of the matrices among *some* | number of exceptions (uint32) | exceptions

The last two stand there if an array is *some*. Exceptions are positions among the entries that rows and columns leave, of all
arrays together, in the code of `positions`. Each set of entries has just one code, which is the one that is read.
"""

from __future__ import annotations

import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

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
from flwr_robustcomp.compressors.positions import largest_size, read_positions, write_positions
from flwr_robustcomp.errors import WireError

__all__ = ["Shape", "largest_support", "read_support", "write_support"]

Shape = tuple[int, ...]
Mask = npt.NDArray[np.bool_]

_ALL, _NONE, _SOME = 0, 1, 2
_FORM_BITS = 2
_COUNT = struct.Struct("<I")


def write_support(mask: Mask, shapes: Sequence[Shape]) -> bytes:
    """Write which entries are not zero.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (d,)
        True for entries that are not zero.
    shapes : sequence of tuple of int
        The arrays that lie end to end in the d entries, none of them empty.

    Returns
    -------
    bytes
        At most `largest_support` of them.
    """
    forms, sides, left = [], [], []
    for part in _parts(mask, shapes):
        forms.append(_ALL if part.all() else _SOME if part.any() else _NONE)
        if forms[-1] == _SOME:
            rows, columns = _sides(part)
            sides += [rows, columns] if len(part) > 1 else []
            left.append(part[np.ix_(rows, columns)].reshape(-1))
    head = pack_uints(np.array(forms, np.uint32), _FORM_BITS) + pack_bits(np.concatenate(sides) if sides else _NOTHING)
    if not left:
        return head
    gone = np.flatnonzero(~np.concatenate(left))
    exceptions = write_positions(gone, sum(map(len, left)), "entropy") if gone.size else b""
    return head + _COUNT.pack(gone.size) + exceptions


def largest_support(shapes: Sequence[Shape]) -> int:
    """Return the most bytes that `write_support` makes for arrays of these shapes."""
    d = sum(map(math.prod, shapes))
    sides = sum(sum(_matrix(shape)) for shape in shapes if _matrix(shape)[0] > 1)
    return packed_size(len(shapes), _FORM_BITS) + packed_size(sides) + _COUNT.size + largest_size(d, d, "entropy")


def read_support(data: bytes, shapes: tuple[Shape, ...]) -> Mask:
    """Read which entries are not zero.

    A strategy asks for each payload several times, and many nodes send one and the same set: the last ones are remembered.

    Returns
    -------
    numpy.ndarray of bool, shape (d,)
        Not to be written to.

    Raises
    ------
    WireError
        If the bytes are not those of `write_support` for some mask. Nothing larger than O(d) is allocated.
    """
    key = (data, shapes)
    if (known := _MEMORY.get(key)) is None:
        _MEMORY.put(key, known := _read(data, shapes))
    return known


class _Memory:
    """The masks read last, up to a number of bytes."""

    _BYTES = 1 << 26

    def __init__(self) -> None:
        self._masks: OrderedDict[tuple[bytes, tuple[Shape, ...]], Mask] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[bytes, tuple[Shape, ...]]) -> Mask | None:
        with self._lock:
            if key in self._masks:
                self._masks.move_to_end(key)
            return self._masks.get(key)

    def put(self, key: tuple[bytes, tuple[Shape, ...]], mask: Mask) -> None:
        with self._lock:
            if key not in self._masks:
                self._masks[key] = mask
                self._size += mask.nbytes
            while self._size > self._BYTES:
                self._size -= self._masks.popitem(last=False)[1].nbytes


_MEMORY = _Memory()


def _read(data: bytes, shapes: tuple[Shape, ...]) -> Mask:
    rest = _Reader(data)
    forms = rest.uints(len(shapes), _FORM_BITS)
    if (forms > _SOME).any():
        raise WireError(f"forms of arrays must be 0, 1 or 2, got {int(forms.max())}")
    mask = np.zeros(sum(map(math.prod, shapes)), np.bool_)
    parts = list(_parts(mask, shapes))
    for part, form in zip(parts, forms, strict=True):
        part[:] = form == _ALL
    some = [part for part, form in zip(parts, forms, strict=True) if form == _SOME]
    sides = _split(rest.bits(sum(sum(part.shape) for part in some if len(part) > 1)), some)
    if some:
        _fill(some, sides, rest)
    rest.end()
    mask.setflags(write=False)
    return mask


def _fill(some: Sequence[Mask], sides: Sequence[tuple[Mask, Mask]], rest: _Reader) -> None:
    """Write what rows, columns and exceptions say into the arrays that have some zeros."""
    sizes = [int(rows.sum()) * int(columns.sum()) for rows, columns in sides]
    left = np.ones(sum(sizes), np.bool_)
    if (count := rest.count()) > left.size:
        raise WireError(f"exceptions must be at most {left.size}, got {count}")
    if count:
        left[read_positions(rest.all(), count, left.size, "entropy")] = False
    stops = np.cumsum(sizes)
    for part, (rows, columns), values in zip(some, sides, np.split(left, stops[:-1]), strict=True):
        part[np.ix_(rows, columns)] = values.reshape(int(rows.sum()), int(columns.sum()))
        found = _sides(part)
        if part.all() or not part.any() or not (np.array_equal(found[0], rows) and np.array_equal(found[1], columns)):
            raise WireError("rows and columns of an array must be those that are not zero throughout, and not all of it")


class _Reader:
    """Takes bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def uints(self, count: int, width: int) -> npt.NDArray[np.uint32]:
        data = self._take(packed_size(count, width))
        if not padding_is_zero(data, count * width):
            raise WireError("padding bits must be zero")
        return unpack_uints(data, count, width)

    def bits(self, count: int) -> Mask:
        data = self._take(packed_size(count))
        if not padding_is_zero(data, count):
            raise WireError("padding bits must be zero")
        return unpack_bits(data, count).astype(np.bool_)

    def count(self) -> int:
        return int(_COUNT.unpack(self._take(_COUNT.size))[0])

    def all(self) -> bytes:
        return self._take(len(self._data))

    def end(self) -> None:
        if self._data:
            raise WireError(f"{len(self._data)} bytes too many")

    def _take(self, size: int) -> bytes:
        if len(self._data) < size:
            raise WireError("truncated support")
        taken, self._data = self._data[:size], self._data[size:]
        return taken


_NOTHING = np.zeros(0, np.bool_)


def _matrix(shape: Shape) -> tuple[int, int]:
    """Return rows and columns of an array as it is read here; a vector, or what is as thin, is one row."""
    d = math.prod(shape)
    n = shape[0] if len(shape) > 1 and 1 < shape[0] < d else 1
    return n, d // n


def _parts(mask: Mask, shapes: Sequence[Shape]) -> Iterator[Mask]:
    """Return the arrays as matrices, views of the mask."""
    start = 0
    for shape in shapes:
        stop = start + math.prod(shape)
        yield mask[start:stop].reshape(_matrix(shape))
        start = stop


def _sides(part: Mask) -> tuple[Mask, Mask]:
    """Return the rows and the columns that are not zero throughout; all of them where there is but one row."""
    n, c = part.shape
    if n == 1:
        return np.ones(1, np.bool_), np.ones(c, np.bool_)
    return np.asarray(part.any(axis=1)), np.asarray(part.any(axis=0))


def _split(bits: Mask, some: Sequence[Mask]) -> list[tuple[Mask, Mask]]:
    """Return the rows and columns of each array from all of their bits."""
    sides, start = [], 0
    for part in some:
        n, c = part.shape
        if n == 1:
            sides.append(_sides(part))
        else:
            sides.append((bits[start : start + n], bits[start + n : start + n + c]))
            start += n + c
    return sides
