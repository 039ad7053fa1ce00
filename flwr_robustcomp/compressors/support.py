"""Which entries of a model's arrays are not zero, in few bytes where zeros have a pattern.

Zeros of an update seldom lie anywhere: a frozen array has none but zeros, an embedding has a row of them for each word that was
not seen, an input that is always dark has a column of them, and a unit that few images reach has many in its row. So each
array, read as a matrix of its first dimension by all others, is *all*, *none*, or *some*; *some* is given by its rows and its
columns that are zero throughout, and by the exceptions, entries that are zero although their row and column are not. Exceptions
of *holed* rows, in which more than one entry in sixteen is an exception, are coded apart. A vector is one row.

    forms, 2 bits an array | rows and columns that are zero throughout | holed rows | exceptions of others | of holed rows

The last four are there if an array is *some*, each for all such arrays together: a number in as few bytes as it can need, and
positions in the code of `positions`. Each set of entries has just one code, which is the one that is read.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.bits import (
    pack_uints,
    packed_size,
    padding_is_zero,
    unpack_uints,
)
from flwr_robustcomp.compressors.positions import largest_size, read_positions, write_positions
from flwr_robustcomp.errors import WireError

__all__ = ["Shape", "largest_support", "read_support", "write_support"]

Shape = tuple[int, ...]
Mask = npt.NDArray[np.bool_]

_ALL, _NONE, _SOME = 0, 1, 2
_FORM_BITS = 2
_HOLED = 16


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
    parts = list(_parts(mask, shapes))
    forms = [_ALL if part.all() else _SOME if part.any() else _NONE for part in parts]
    head = pack_uints(np.array(forms, np.uint32), _FORM_BITS)
    some = [part for part, form in zip(parts, forms, strict=True) if form == _SOME]
    if not some:
        return head
    sides = [_sides(part) for part in some]
    left = np.concatenate([part[np.ix_(*side)].reshape(-1) for part, side in zip(some, sides, strict=True)])
    lengths = _lengths(sides)
    holed = _holed(left, lengths)
    within = np.repeat(holed, lengths)
    gone = [_flags(some, sides), ~holed, left[~within], left[within]]
    return head + b"".join(map(_write_gone, gone))


def largest_support(shapes: Sequence[Shape]) -> int:
    """Return the most bytes that `write_support` makes for arrays of these shapes."""
    d = sum(map(math.prod, shapes))
    rows = sum(_matrix(shape)[0] for shape in shapes)
    sides = sum(sum(_matrix(shape)) for shape in shapes if _matrix(shape)[0] > 1)
    # Exceptions are two sets of d entries in all: the second has two numbers, a code and a byte that is not full of its own.
    return packed_size(len(shapes), _FORM_BITS) + sum(map(_largest_gone, (sides, rows, d))) + 2 * _number(d) + 2


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
                self._size += _footprint(key, mask)
            while self._size > self._BYTES:
                self._size -= _footprint(*self._masks.popitem(last=False))


def _footprint(key: tuple[bytes, tuple[Shape, ...]], mask: Mask) -> int:
    """Return about how many bytes an entry takes; shapes are shared by all entries of a model."""
    return len(key[0]) + mask.nbytes + 400


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
    if some := [part for part, form in zip(parts, forms, strict=True) if form == _SOME]:
        _fill(some, rest)
    rest.end()
    mask.setflags(write=False)
    return mask


def _fill(some: Sequence[Mask], rest: _Reader) -> None:
    """Write what rows, columns and exceptions say into the arrays that have some zeros."""
    sides = _split(rest.left(sum(sum(part.shape) for part in some if len(part) > 1)), some)
    if not all(rows.any() and columns.any() for rows, columns in sides):
        raise WireError("an array of form 2 must have entries that are not zero")
    lengths = _lengths(sides)
    holed = ~rest.left(lengths.size)
    within = np.repeat(holed, lengths)
    left = np.empty(within.size, np.bool_)
    for entries in (~within, within):
        left[entries] = rest.left(int(np.count_nonzero(entries)))
    if not np.array_equal(_holed(left, lengths), holed):
        raise WireError(f"holed rows must be those with more than one exception in {_HOLED} entries")
    stops = np.cumsum([int(rows.sum()) * int(columns.sum()) for rows, columns in sides])
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

    def left(self, n: int) -> Mask:
        """Return which of n are not gone."""
        left = np.ones(n, np.bool_)
        count = self._whole(n)
        if count > n:
            raise WireError(f"zeros must be at most {n}, got {count}")
        if count:
            size = self._whole(largest_size(count, n, "entropy"))
            left[read_positions(self._take(size), count, n, "entropy")] = False
        return left

    def _whole(self, most: int) -> int:
        """Return a number from 0 to ``most``, or one that is as long in bytes."""
        size = _number(most)
        return int(unpack_uints(self._take(size), 1, 8 * size)[0]) if size else 0

    def end(self) -> None:
        if self._data:
            raise WireError(f"{len(self._data)} bytes too many")

    def _take(self, size: int) -> bytes:
        if len(self._data) < size:
            raise WireError("truncated support")
        taken, self._data = self._data[:size], self._data[size:]
        return taken


def _write_gone(left: Mask) -> bytes:
    """Write which are gone: how many, in how many bytes their positions are, and these."""
    gone = np.flatnonzero(~left)
    number = gone.size.to_bytes(_number(left.size), "little")
    if not gone.size:
        return number
    data = write_positions(gone, left.size, "entropy")
    return number + len(data).to_bytes(_number(largest_size(gone.size, left.size, "entropy")), "little") + data


def _largest_gone(n: int) -> int:
    """Return the most bytes that `_write_gone` makes of n."""
    most = largest_size(n, n, "entropy") if n else 0
    return _number(n) + _number(most) + most


def _number(n: int) -> int:
    """Return the bytes of a number from 0 to n."""
    return packed_size(n.bit_length())


def _lengths(sides: Sequence[tuple[Mask, Mask]]) -> npt.NDArray[np.intp]:
    """Return how many entries each row has left, of all arrays, in columns that are not zero throughout."""
    return np.concatenate([np.full(int(rows.sum()), int(columns.sum())) for rows, columns in sides])


def _holed(left: Mask, lengths: npt.NDArray[np.intp]) -> Mask:
    """Return which rows have more than one exception in `_HOLED` entries."""
    starts = np.cumsum(lengths) - lengths
    return np.asarray(_HOLED * np.add.reduceat(~left, starts, dtype=np.intp) > lengths)


def _flags(some: Sequence[Mask], sides: Sequence[tuple[Mask, Mask]]) -> Mask:
    """Return rows and columns of all matrices as one vector."""
    of = [flags for part, side in zip(some, sides, strict=True) if len(part) > 1 for flags in side]
    return np.concatenate(of) if of else np.zeros(0, np.bool_)


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
