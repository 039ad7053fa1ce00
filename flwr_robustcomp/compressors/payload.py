"""What a compressor makes of a vector: a few scalars and packed bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["DTYPES", "Payload", "dtype_name", "working_dtype"]

DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
"""The dtypes that travel compressed, by the name that stands on the wire."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the wire's name of a dtype, for example ``"bfloat16"``."""
    return _NAMES[dtype]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in: float64 for float64, float32 for all narrower ones."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True, slots=True)
class Payload:
    """A compressed vector, independent of any transport.

    Parameters
    ----------
    shape : tuple of int
        Shape of the dense tensor.
    dtype : torch.dtype
        Dtype of the dense tensor, one of `DTYPES`.
    scalars : tuple of int or float
        The codec's header fields, in the order of its ``header`` format: parameters first, then scales.
    body : bytes
        The packed coordinates.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import L1Sign
    >>> payload = L1Sign().compress(torch.tensor([1.0, -3.0]))
    >>> payload.shape, payload.dtype, payload.scalars, len(payload.body)
    ((2,), torch.float32, (2.0,), 1)
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    scalars: tuple[int | float, ...]
    body: bytes

    @property
    def size(self) -> int:
        """Number of coordinates d of the dense tensor."""
        return math.prod(self.shape)
