"""Floating-point entries as little-endian bytes, bfloat16 included, which numpy does not know."""

from __future__ import annotations

import torch
from torch import Tensor

from flwr_robustcomp.errors import WireError

__all__ = ["check_finite", "check_scale", "values_from_bytes", "values_to_bytes"]


def values_to_bytes(flat: Tensor) -> bytes:
    """Return the entries of a vector, shape (n,), as n * itemsize little-endian bytes."""
    return flat.contiguous().view(torch.uint8).cpu().numpy().tobytes()


def values_from_bytes(body: bytes, dtype: torch.dtype) -> Tensor:
    """Return the vector that `values_to_bytes` packed; a copy, so that it can be written to."""
    return torch.frombuffer(bytearray(body), dtype=dtype)


def check_finite(values: Tensor) -> None:
    """Raise `WireError` if an entry is NaN or infinite."""
    if not bool(torch.isfinite(values).all()):
        raise WireError("an entry is NaN or infinite")


def check_scale(scale: float, dtype: torch.dtype) -> None:
    """Raise `WireError` unless a scale is finite, not negative, not negative zero, and exact in the model's dtype.

    A scale that is exact in the dtype makes the server's sum (in working precision) and the client's Q(x) (in the model's
    dtype) the same number, so that what the residual counts as sent is what arrives.
    """
    rounded = float(torch.tensor(scale, dtype=torch.float64).to(dtype))
    if rounded != scale or scale < 0 or scale == float("inf") or str(scale) == "-0.0":
        raise WireError(f"the scale must be finite, non-negative and exact in {dtype}, got {scale!r}")
