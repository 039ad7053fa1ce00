"""A payload inside another's body: the inner compressor's header, then its body."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.errors import WireError

__all__ = ["Unspoken", "check_length", "nest", "nested_compressor", "no_scalars", "unnest"]


def nest(payload: Payload, compressor: Compressor) -> bytes:
    """Return header and body of a payload."""
    return struct.pack(compressor.header, *payload.scalars) + payload.body


def unnest(body: bytes, compressor: Compressor, shape: tuple[int, ...], dtype: torch.dtype) -> Payload:
    """Read what `nest` wrote.

    Raises
    ------
    WireError
        If the length is not one that the compressor writes for this shape and dtype, or the header is not canonical.
    """
    size = struct.calcsize(compressor.header)
    largest = size + compressor.body_size_of(shape, dtype)
    if not (largest if compressor.exact_size else size) <= len(body) <= largest:
        raise WireError(
            f"the nested {compressor.codec} must have {largest} bytes{_AT_MOST[compressor.exact_size]}, got {len(body)}"
        )
    scalars: Scalars = struct.unpack_from(compressor.header, body)
    if struct.pack(compressor.header, *scalars) != body[:size]:
        raise WireError("the nested header is not canonical")
    return Payload(shape, dtype, scalars, body[size:])


def no_scalars(compressor: Compressor) -> Scalars:
    """Return the scalars of a header of zero bytes, for a payload in which the compressor had nothing to do."""
    return struct.unpack_from(compressor.header, bytes(struct.calcsize(compressor.header)))


def check_length(compressor: Compressor, payload: Payload) -> None:
    """Raise `WireError` unless the body has a length that the compressor writes for so many entries."""
    largest = compressor.body_size(payload.size, payload.dtype)
    if len(payload.body) > largest or (compressor.exact_size and len(payload.body) < largest):
        wanted = f"{largest}" if compressor.exact_size else f"at most {largest}"
        raise WireError(f"the values of {payload.size} entries must take {wanted} bytes, got {len(payload.body)}")


_AT_MOST = {True: "", False: " at most"}


def nested_compressor(body: bytes, inner: Sequence[type[Compressor]]) -> Compressor:
    """Return the compressor that wrote a nested payload, for readers that are not configured with one."""
    header = inner[0].header_of(inner[1:])
    size = struct.calcsize(header)
    if len(body) < size:
        raise WireError(f"the nested header must have {size} bytes, got {len(body)}")
    return inner[0].from_payload(struct.unpack_from(header, body), body[size:], inner[1:])


class Unspoken(Compressor):
    """An inner compressor of which a payload gives the name alone, because it had nothing to do there."""

    name: ClassVar[str] = "unspoken"

    def __init__(self, inner: Sequence[type[Compressor]]) -> None:
        self._codec = "+".join(one.name for one in inner)
        self._header = inner[0].header_of(inner[1:])

    @property
    def codec(self) -> str:
        """The codec of the compressor that stood here."""
        return self._codec

    @property
    def header(self) -> str:  # type: ignore[override]
        """That of the compressor that stood here."""
        return self._header

    def delta(self, d: int) -> None:
        """Return None: nothing is known."""
        return None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return 0."""
        return 0

    def check(self, payload: Payload) -> None:
        """Refuse every payload."""
        raise WireError(f"the parameters of {self._codec} did not travel")

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Raise `WireError`: nobody knows the parameters."""
        raise WireError(f"the parameters of {self._codec} did not travel")

    def decode(self, payload: Payload) -> Tensor:
        """Raise `WireError`: nobody knows the parameters."""
        raise WireError(f"the parameters of {self._codec} did not travel")
