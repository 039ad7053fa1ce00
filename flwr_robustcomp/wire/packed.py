"""Payloads as Flower Arrays.

A packed Array has ``stype = "robustcomp/<codec>/<version>"``, the dtype and shape of the dense tensor, and ``data`` = the
codec's scalars (little-endian, in the order of `Compressor.header`) followed by its body.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from flwr.app import Array

from flwr_robustcomp.component import find_subclass
from flwr_robustcomp.compressors import COMPRESSORS, Compressor, Identity, Payload, dtype_name
from flwr_robustcomp.errors import ConfigurationError, WireError

__all__ = [
    "IDENTITY",
    "MODEL_ARRAY",
    "NORM_RECORD",
    "compressor_of",
    "is_packed",
    "norm_key",
    "pack",
    "packed_fields",
    "read_packed",
    "stype_of",
    "unpack_trusted",
]

MODEL_ARRAY = "robustcomp.model"
"""Name of the one packed Array that stands for all compressed arrays of a model."""

NORM_RECORD = "robustcomp"
"""Name of the ConfigRecord in a reply that carries the norm of the uncompressed vector (Algorithm 1)."""

IDENTITY = Identity()
"""What bfloat16, which numpy lacks, travels by where it is dense."""


def norm_key(order: float) -> str:
    """Return the key of the reported ||x||_q, for example ``"norm-2"`` or ``"norm-inf"``."""
    return f"norm-{order:g}"


def stype_of(compressor: Compressor) -> str:
    """Return the stype under which a compressor's payloads travel."""
    return f"robustcomp/{compressor.codec}/{compressor.version}"


def pack(payload: Payload, compressor: Compressor) -> Array:
    """Write a payload as a Flower Array."""
    return Array(*packed_fields(payload, compressor))


def packed_fields(payload: Payload, compressor: Compressor) -> tuple[str, tuple[int, ...], str, bytes]:
    """Return dtype, shape, stype and data of a payload's Array."""
    compressor, payload = compressor.sent_as(payload)
    data = struct.pack(compressor.header, *payload.scalars) + payload.body
    return dtype_name(payload.dtype), payload.shape, stype_of(compressor), data


def read_packed(array: Array, compressor: Compressor, shape: tuple[int, ...], dtype: torch.dtype) -> Payload:
    """Read a payload that a peer claims to be ``compressor``'s output for a tensor of this shape and dtype.

    Parameters
    ----------
    array : Array
        Foreign.
    compressor : Compressor
        The one that the server is configured with.
    shape, dtype : tuple of int, torch.dtype
        The server's own.

    Returns
    -------
    Payload
        The canonical encoding of a member of the image of the compressor.

    Raises
    ------
    WireError
        In every other case; nothing larger than the announced length was allocated.
    """
    if (plain := compressor.plain) is not None and array.stype == stype_of(plain):
        return compressor.adopted(read_packed(array, plain, shape, dtype))
    if array.stype != stype_of(compressor):
        wanted = stype_of(compressor) if plain is None else stype_of(plain)  # the name that users know
        raise WireError(f"stype must be {wanted!r}, got {array.stype[:64]!r}")
    if array.dtype != dtype_name(dtype):
        raise WireError(f"dtype must be {dtype_name(dtype)}, got {array.dtype[:32]!r}")
    if tuple(array.shape) != shape:
        raise WireError(f"shape must be {shape}, got {tuple(array.shape)[:8]}")
    header_size = struct.calcsize(compressor.header)
    largest = header_size + compressor.body_size_of(shape, dtype)
    smallest = largest if compressor.exact_size else header_size
    if not smallest <= len(array.data) <= largest:
        wanted = f"{largest}" if compressor.exact_size else f"{smallest} to {largest}"
        raise WireError(f"data must be {wanted} bytes, got {len(array.data)}")
    scalars = struct.unpack_from(compressor.header, array.data)
    if struct.pack(compressor.header, *scalars) != array.data[:header_size]:
        raise WireError("the header is not canonical")  # for example a boolean that is neither 0 nor 1
    payload = Payload(shape, dtype, scalars, array.data[header_size:])
    if compressor.sent_as(payload)[0] is not compressor:
        raise WireError(f"this payload must be sent as {compressor.sent_as(payload)[0].codec!r}")
    compressor.check(payload)
    return payload


def is_packed(array: Array) -> bool:
    """Whether an Array is packed; a bfloat16 Array of the identity codec counts as dense, which is how those travel."""
    dense_bfloat16 = array.stype == stype_of(IDENTITY) and array.dtype == "bfloat16"
    return array.stype.startswith("robustcomp/") and not dense_bfloat16


def compressor_of(array: Array) -> Compressor:
    """Return the compressor that a packed Array names, with the parameters that its bytes name; foreign bytes may name any.

    Raises
    ------
    WireError
        If the Array is not packed, by a codec or version that is not known here, or with parameters that it cannot have.
    """
    parts = array.stype.split("/")
    names = parts[1].split("+") if len(parts) == 3 and parts[0] == "robustcomp" else []
    # One that is not in the registry was imported to make the payload.
    known = [cls for name in names if (cls := COMPRESSORS.get(name) or find_subclass(Compressor, name)) is not None]  # type: ignore[type-abstract]
    if not known or len(known) != len(names) or parts[2] != str(known[0].version):
        raise WireError(f"not a packed array of this version: stype {array.stype[:64]!r}")
    header = known[0].header_of(known[1:])
    header_size = struct.calcsize(header)
    if len(array.data) < header_size:
        raise WireError(f"data must be at least {header_size} bytes, got {len(array.data)}")
    scalars = struct.unpack_from(header, array.data)
    try:
        return known[0].from_payload(scalars, array.data[header_size:], known[1:])
    except ConfigurationError as error:
        raise WireError(f"the header of {array.stype[:64]!r} is not one that it can have: {error}") from error


def unpack_trusted(array: Array, shapes: Sequence[tuple[int, ...]] = ()) -> tuple[Compressor, Payload]:
    """Read a payload of this process's own making, the compressor included; ``shapes`` are those of the arrays in it.

    Raises
    ------
    WireError
        As `compressor_of` and `read_packed` do.
    """
    compressor = compressor_of(array).for_shapes(shapes)
    return compressor, read_packed(array, compressor, tuple(array.shape), getattr(torch, array.dtype))
