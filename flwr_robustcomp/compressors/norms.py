"""Norms of vectors of any length, the tiny and the huge included, the same bit for bit on every processor."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

from flwr_robustcomp.compressors.payload import working_dtype
from flwr_robustcomp.compressors.sums import total, wide_magnitudes, wide_squares

__all__ = ["NORM_ORDERS", "array_norm", "in_units", "vector_norm"]

NORM_ORDERS = (1, 2, math.inf)
"""The orders q of ||.||_q that norm thresholding understands."""

_SQUARABLE = (2.0**-480, 2.0**480)
"""Norms whose square, and that of entries that matter to it, a double holds with all its digits."""

_FEW = 256
"""Entries up to which `math.fsum`, which rounds the exact sum once, is the fastest sum that has no order."""

_LONG = 4096
"""Entries above which a vector is widened in parts that stay in the cache; in one piece the short ones take half the time."""


def vector_norm(x: Tensor, order: float) -> float:
    """Return ||x||_q as a Python float, summed in double precision.

    Parameters
    ----------
    x : Tensor, any shape, floating
        Finite.
    order : {1, 2, inf}
        q.

    Notes
    -----
    The squares of entries below 1e-162 are zero, and those above 1e154 infinite: a vector of such entries is measured in units
    of its largest one. Otherwise a sender could pass a vector of norm 1e-170 for one of norm zero beside honest ones of 1e-300.

    Norms decide who is kept. So they are summed in an order of our own (`sums`), and not in one that depends on the
    processor and the number of threads: the same replies give the same decision everywhere.
    """
    flat = x.detach().reshape(-1)
    return array_norm(flat.to(working_dtype(flat.dtype)).cpu().numpy(), order)


def array_norm(x: npt.NDArray[np.floating], order: float = 2) -> float:
    """Return ||x||_q of a finite numpy vector, shape (d,), as `vector_norm` does."""
    if order == math.inf:
        return float(np.abs(x).max(initial=0.0))
    if order == 1:
        return _sum(x, np.abs)
    norm = math.sqrt(_sum(x, np.square))
    if x.dtype != np.float64 or _SQUARABLE[0] < norm < _SQUARABLE[1]:
        return norm
    peak = float(np.abs(x).max(initial=0.0))
    return peak * math.sqrt(_sum(x / peak, np.square)) if 0 < peak < math.inf else norm


def _sum(x: npt.NDArray[np.floating], of: np.ufunc) -> float:
    """Return the sum of the magnitudes or the squares of a vector's entries, in double precision."""
    if x.size > _LONG:
        return float((wide_magnitudes if of is np.abs else wide_squares)(x[None])[0])
    with np.errstate(over="ignore", under="ignore"):
        made = of(x.astype(np.float64))
        if x.size > _FEW:
            return float(total(made))
    try:
        return math.fsum(made.tolist())
    except OverflowError:  # the terms are finite, and their sum is not
        return math.inf


def in_units(x: Tensor) -> tuple[Tensor, float]:
    """Return a tensor in units of its largest entry, and that entry: no square vanishes or overflows. Zeros stay."""
    peak = float(x.abs().max()) if x.numel() else 0.0
    return (x / peak, peak) if 0 < peak < math.inf else (x, 1.0)
