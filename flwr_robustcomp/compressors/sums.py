"""Sums over long rows: accurate whatever their length, without a dense copy, and the same bit for bit on every processor.

A library's sum has the order that suits the processor: how many numbers a register holds, how many threads there are. Here the
order is ours: the upper half of the numbers is added to the lower half, entry by entry, until one is left. An addition of two
arrays has no order to choose, and IEEE 754 rounds it in one way only. It also is pairwise summation, whose error grows with
the logarithm of the count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["magnitudes", "squares", "total", "wide_magnitudes", "wide_squares"]

_BLOCK = 1 << 16
"""Columns at a time: what is made of them stays in a core's cache. It decides the order of a sum, so it depends on nothing."""

_ENTRIES = 1 << 18
"""Entries of short rows at a time: a call costs as much as a few hundred additions, so that many rows share it."""

_SHORT = 64
"""Entries added in single precision before anything is widened: their roundings, 2^-24 each, have no bias."""

_FEW = 512
"""Columns up to which single precision saves nothing."""

_TINY = 1e-30
"""A mean square from which on those that vanish in single precision, below 1e-38 each, do not count."""

Rows = npt.NDArray[np.floating]
Sums = npt.NDArray[np.float64]


def magnitudes(rows: Rows) -> Sums:
    """Return sum_j |x_ij| of each row, shape (k,), of a matrix, shape (k, d).

    A row's number does not depend on the others. It is finite if and only if all entries are and a double can hold it. Single
    precision is added up 64 entries at a time before it is widened, at half the cost: 4e-7 off at the very worst, and less by
    orders of magnitude for long rows.
    """
    if rows.dtype != np.float32 or rows.shape[1] <= _FEW:
        return wide_magnitudes(rows)
    with np.errstate(over="ignore"):
        sums = _sums(rows, np.abs, np.dtype(np.float32))
    return _carefully(sums, ~np.isfinite(sums), rows, np.abs)


def squares(rows: Rows) -> Sums:
    """Return sum_j x_ij^2 of each row, shape (k,), of a matrix, shape (k, d).

    As `magnitudes`, whatever the size of the entries: where single precision cannot hold their squares, doubles are added.
    """
    if rows.dtype != np.float32 or rows.shape[1] <= _FEW:
        return wide_squares(rows)
    with np.errstate(over="ignore", under="ignore"):
        sums = _sums(rows, np.square, np.dtype(np.float32))
    return _carefully(sums, ~((sums > rows.shape[1] * _TINY) & np.isfinite(sums)), rows, np.square)


def wide_magnitudes(rows: Rows) -> Sums:
    """Return `magnitudes`, added up in double precision throughout."""
    with np.errstate(over="ignore"):
        return _sums(rows, np.abs, np.dtype(np.float64))


def wide_squares(rows: Rows) -> Sums:
    """Return `squares`, added up in double precision throughout; infinite where a double cannot hold a square."""
    with np.errstate(over="ignore", under="ignore"):
        return _sums(rows, np.square, np.dtype(np.float64))


def total(values: npt.NDArray[np.float64]) -> Sums:
    """Return the sums over the first axis of an array, shape (n, ...), float64, as an array of shape (...).

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.compressors.sums import total
    >>> total(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).tolist()
    [9.0, 12.0]
    """
    sums: Sums = _fold(values[None].copy())[0]
    return sums


def _sums(rows: Rows, of: np.ufunc, dtype: np.dtype[np.floating]) -> Sums:
    """Return the sums of a function of the entries, 64 of them at a time in a dtype and then in double precision."""
    k, d = rows.shape
    step = max(1, _ENTRIES // max(1, d))  # rows at a time
    if k > step:
        return np.concatenate([_sums(rows[first : first + step], of, dtype) for first in range(0, k, step)])
    whole = d - d % _SHORT
    parts = np.empty((whole // _SHORT + d % _SHORT, k))
    buffer = np.empty(k * min(_BLOCK, whole), dtype)
    for start in range(0, whole, _BLOCK):
        taken = rows[:, start : min(start + _BLOCK, whole)]
        made = buffer[: taken.size].reshape(taken.shape)
        if taken.dtype == dtype:
            of(taken, out=made)
        else:
            made[:] = taken
            of(made, out=made)
        first, count = start // _SHORT, taken.shape[1] // _SHORT
        parts[first : first + count] = _fold(made.reshape(k, _SHORT, count)).T
    parts[whole // _SHORT :] = of(rows[:, whole:].astype(np.float64)).T
    return total(parts)


def _fold(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the sums over the second axis, shape (k, ...), of an array of shape (k, n, ...), which is written over."""
    n = x.shape[1]
    if not n:
        return np.zeros(x.shape[:1] + x.shape[2:], x.dtype)
    half = 1 << (n - 1).bit_length() >> 1  # the largest power of two below n
    while half:
        lower = x[:, : n - half]
        np.add(lower, x[:, half:n], out=lower)
        n, half = half, half >> 1
    return x[:, 0]


def _carefully(sums: Sums, doubtful: npt.NDArray[np.bool_], rows: Rows, of: np.ufunc) -> Sums:
    if doubtful.any():
        sums[doubtful] = wide_magnitudes(rows[doubtful]) if of is np.abs else wide_squares(rows[doubtful])
    return sums
