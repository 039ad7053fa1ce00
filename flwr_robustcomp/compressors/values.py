"""Floating-point entries as little-endian bytes, bfloat16 included, which numpy does not know."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.payload import working_dtype
from flwr_robustcomp.errors import WireError

__all__ = ["as_numpy", "check_finite", "check_scale", "is_finite", "round_to", "values_from_bytes", "values_to_bytes"]


def as_numpy(flat: Tensor) -> npt.NDArray[np.floating]:
    """Return a vector on the CPU as numpy, in working precision: half types widen to float32, the others share memory."""
    return flat.to(working_dtype(flat.dtype)).numpy()


def is_finite(flat: Tensor) -> bool:
    """Whether a vector on the CPU has neither NaN nor infinity.

    Both survive a sum, and one sum is several times cheaper than an elementwise test; a finite vector whose sum overflows
    is rare and gets the careful test.
    """
    x = as_numpy(flat)
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(x.sum()) or bool(np.isfinite(x).all())


def round_to(value: float, dtype: torch.dtype) -> float:
    """Return the number of a dtype that is nearest to ``value``."""
    if dtype == torch.float64:
        return value
    return float(torch.tensor(value, dtype=torch.float64).to(dtype))


def values_to_bytes(flat: Tensor) -> bytes:
    """Return the entries of a vector, shape (n,), as n * itemsize little-endian bytes."""
    if flat.numel() == 1:  # torch calls any stride of one entry contiguous, and cannot view it as bytes
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.contiguous().view(torch.uint8).numpy().tobytes()


def values_from_bytes(body: bytes, dtype: torch.dtype) -> Tensor:
    """Return the vector that `values_to_bytes` packed; a copy, so that it can be written to."""
    return torch.frombuffer(bytearray(body), dtype=dtype)


def check_finite(values: Tensor) -> None:
    """Raise `WireError` if an entry is NaN or infinite, or the sum of squares overflows a double."""
    if not math.isfinite(float(torch.linalg.vector_norm(values, dtype=torch.float64))):
        raise WireError("an entry is NaN or infinite, or the norm overflows")


def check_scale(scale: float, dtype: torch.dtype) -> None:
    """Raise `WireError` unless a scale is finite, not negative, not negative zero, and exact in the model's dtype.

    A scale that is exact in the dtype makes the server's sum (in working precision) and the client's Q(x) (in the model's
    dtype) the same number, so that what the residual counts as sent is what arrives.
    """
    if not math.isfinite(scale) or math.copysign(1.0, scale) < 0 or round_to(scale, dtype) != scale:
        raise WireError(f"the scale must be finite, non-negative and exact in {dtype}, got {scale!r}")
