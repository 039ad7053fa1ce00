"""Norms of vectors of any length, the tiny and the huge included."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["NORM_ORDERS", "array_norm", "in_units", "vector_norm"]

NORM_ORDERS = (1, 2, math.inf)
"""The orders q of ||.||_q that norm thresholding understands."""

_SQUARABLE = (2.0**-480, 2.0**480)
"""Norms whose square, and that of entries that matter to it, a double holds with all its digits."""


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
    """
    norm = float(torch.linalg.vector_norm(x.reshape(-1), ord=order, dtype=torch.float64))
    if order != 2 or x.dtype != torch.float64 or _SQUARABLE[0] < norm < _SQUARABLE[1]:
        return norm
    scaled, peak = in_units(x.reshape(-1))
    return peak * float(torch.linalg.vector_norm(scaled))


def array_norm(x: npt.NDArray[np.floating], order: float = 2) -> float:
    """Return ||x||_q of a finite numpy array as `vector_norm` does, with numpy's own last digits where no square is lost."""
    wide = x.astype(np.float64, copy=False)
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(wide, ord=order))
    if order != 2 or _SQUARABLE[0] < norm < _SQUARABLE[1]:
        return norm
    return vector_norm(torch.from_numpy(np.ascontiguousarray(wide)), order)


def in_units(x: Tensor) -> tuple[Tensor, float]:
    """Return a tensor in units of its largest entry, and that entry: no square vanishes or overflows. Zeros stay."""
    peak = float(x.abs().max()) if x.numel() else 0.0
    return (x / peak, peak) if 0 < peak < math.inf else (x, 1.0)
