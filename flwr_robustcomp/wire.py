"""Payloads and tensors as Flower Arrays: the one module that reads foreign bytes.

A packed Array has ``stype = "robustcomp/<codec>/<version>"``, the dtype and shape of the dense tensor, and ``data`` = the
codec's scalars (little-endian, in the order of `Compressor.header`) followed by its body. A dense Array is Flower's own
``numpy.ndarray``, or, for bfloat16, which numpy lacks, the identity codec. Reading checks everything a sender could have
chosen (stype, dtype, shape, the exact length) against what the server expects before it looks at, or allocates for, the
content.
"""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from flwr_robustcomp.component import find_subclass
from flwr_robustcomp.compressors import COMPRESSORS, Compressor, Identity, Payload, dtype_name, working_dtype
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import ConfigurationError, WireError
from flwr_robustcomp.one_slot import OneSlot

__all__ = [
    "MODEL_ARRAY",
    "NORM_RECORD",
    "dense_values",
    "from_arrays",
    "is_packed",
    "norm_key",
    "pack",
    "packed_fields",
    "read_dense",
    "read_packed",
    "shared_tensors",
    "stype_of",
    "to_array",
    "to_arrays",
    "unpack_trusted",
]

MODEL_ARRAY = "robustcomp.model"
"""Name of the one packed Array that stands for all compressed arrays of a model."""

NORM_RECORD = "robustcomp"
"""Name of the ConfigRecord in a reply that carries the norm of the uncompressed vector (Algorithm 1)."""

_NUMPY = "numpy.ndarray"
_MAX_HEADER = 4096  # an honest npy header of plain numbers has about a hundred bytes, and parsed ones are cached
_WARNED_OF = re.compile(rb"\\|[0-9][a-zA-Z]")  # in no honest header; Python 3.12 warns of some on stderr, thread-unsafely muted
_IDENTITY = Identity()


def norm_key(order: float) -> str:
    """Return the key of the reported ||x||_q, for example ``"norm-2"`` or ``"norm-inf"``."""
    return f"norm-{order:g}"


def stype_of(compressor: Compressor) -> str:
    """Return the stype under which a compressor's payloads travel."""
    return f"robustcomp/{compressor.codec}/{compressor.version}"


# -- packed ---------------------------------------------------------------------------------------------------------------


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
    dense_bfloat16 = array.stype == stype_of(_IDENTITY) and array.dtype == "bfloat16"
    return array.stype.startswith("robustcomp/") and not dense_bfloat16


def unpack_trusted(array: Array, shapes: Sequence[tuple[int, ...]] = ()) -> tuple[Compressor, Payload]:
    """Read a payload of this process's own making, the compressor included; ``shapes`` are those of the arrays in it.

    Raises
    ------
    WireError
        If the Array is not packed, or by a codec or version that is not known here.
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
    compressor = known[0].from_payload(scalars, array.data[header_size:], known[1:]).for_shapes(shapes)
    shape, dtype = tuple(array.shape), getattr(torch, array.dtype)
    return compressor, read_packed(array, compressor, shape, dtype)


# -- dense ----------------------------------------------------------------------------------------------------------------


_dtype_str = lru_cache(maxsize=64)(str)  # numpy builds a dtype's name anew each time, slower than packing a small array


@lru_cache(maxsize=1024)
def _npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """Return the header that numpy writes before an array's bytes; making it costs more than copying a small array."""
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@lru_cache(maxsize=1024)
def _parse_npy_header(header: bytes) -> tuple[np.dtype[np.generic], Literal["C", "F"], tuple[int, ...], int]:
    """Read dtype, order, shape and length of an npy header, without the allocation that `numpy.load` does on its word."""
    try:
        fields = ast.literal_eval("" if _WARNED_OF.search(header) else header.decode("latin1"))
        dtype, fortran, shape = np.dtype(fields["descr"]), fields["fortran_order"], fields["shape"]
    except (ValueError, SyntaxError, TypeError, LookupError, OverflowError, MemoryError, RecursionError) as error:
        raise WireError("unreadable npy header") from error
    # Not text, records, or arrays inside arrays: their items can be empty, or stand for more than one number.
    if dtype.kind not in "biufc" or not isinstance(fortran, bool) or not isinstance(shape, tuple):
        raise WireError("npy header must announce plain numbers")
    if not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise WireError("npy header must announce a shape")
    return dtype, "F" if fortran else "C", shape, math.prod(shape) * dtype.itemsize


def to_array(tensor: Tensor) -> Array:
    """Write a dense tensor as an Array that `Array.numpy` reads; bfloat16, which numpy lacks, goes by the identity codec."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return pack(_IDENTITY.compress(tensor), _IDENTITY)
    ndarray = tensor.numpy()
    return Array(
        _dtype_str(ndarray.dtype), ndarray.shape, _NUMPY, _npy_header(ndarray.dtype.str, ndarray.shape) + ndarray.tobytes()
    )


def read_dense(array: Array, shape: tuple[int, ...] | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Read a dense Array; where shape and dtype are given they are enforced.

    Returns
    -------
    Tensor
        A writable copy.

    Raises
    ------
    WireError
        If the Array is not dense, not of this shape and dtype, or does not have exactly the bytes that its header announces.
    """
    if array.stype == stype_of(_IDENTITY) and array.dtype == "bfloat16" and dtype in (None, torch.bfloat16):
        own_shape = tuple(array.shape) if shape is None else shape
        return _IDENTITY.decompress(read_packed(array, _IDENTITY, own_shape, torch.bfloat16))
    ndarray = _npy_view(array, shape)
    native = ndarray.dtype if ndarray.dtype.isnative else ndarray.dtype.newbyteorder("=")
    try:
        tensor = torch.from_numpy(ndarray.astype(native, order="C", copy=True))
    except TypeError as error:
        raise WireError(f"unsupported dtype {ndarray.dtype}") from error
    if dtype is not None and tensor.dtype != dtype:
        raise WireError(f"dtype must be {dtype}, got {tensor.dtype}")
    return tensor


def dense_values(array: Array, shape: tuple[int, ...], dtype: torch.dtype) -> npt.NDArray[np.floating]:
    """Read a dense floating Array as `read_dense` does, but in working precision and, where possible, without a copy.

    The result may share memory with the Array's bytes and is not to be written to.
    """
    if array.dtype == "bfloat16":
        return as_numpy(read_dense(array, shape, dtype))
    ndarray = _npy_view(array, shape)
    if ndarray.dtype.newbyteorder("=") != np.dtype(dtype_name(dtype)):
        raise WireError(f"dtype must be {dtype}, got {ndarray.dtype}")
    return ndarray.astype(dtype_name(working_dtype(dtype)), copy=False)


def _npy_view(array: Array, shape: tuple[int, ...] | None) -> npt.NDArray[np.generic]:
    """Check an npy Array against its own header and the wanted shape; return a read-only view of its bytes."""
    if array.stype != _NUMPY:
        raise WireError(f"stype must be {_NUMPY!r}, got {array.stype[:64]!r}")
    data = array.data
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise WireError("not an npy array of version 1 or 2")
    start, length = (10, "<H") if data[6] == 1 else (12, "<I")
    if len(data) < start or (header_size := struct.unpack_from(length, data, 8)[0]) > min(_MAX_HEADER, len(data) - start):
        raise WireError("truncated or over-long npy header")
    np_dtype, order, np_shape, size = _parse_npy_header(data[start : start + header_size])
    if shape is not None and np_shape != shape:
        raise WireError(f"shape must be {shape}, got {np_shape[:8]}")
    if len(data) - start - header_size != size:
        raise WireError("length does not match the npy header")
    ndarray = np.frombuffer(data, np_dtype, offset=start + header_size) if size else np.empty(0, np_dtype)
    try:
        return ndarray.reshape(np_shape, order=order)
    except ValueError as error:  # of no entries, and of sides that numpy cannot multiply
        raise WireError("npy header must announce a shape that an array can have") from error


def to_arrays(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Write tensors (a ``state_dict``) as an ArrayRecord; without bfloat16 it reads like ``ArrayRecord(state_dict)``."""
    record = ArrayRecord()
    for name, tensor in tensors.items():
        record[name] = to_array(tensor)
    return record


def from_arrays(record: ArrayRecord) -> dict[str, Tensor]:
    """Read an ArrayRecord into tensors, the inverse of `to_arrays`; also reads ``ArrayRecord(state_dict)``."""
    return {name: read_dense(array) for name, array in record.items()}


_MODEL: OneSlot[dict[str, Tensor]] = OneSlot()


def shared_tensors(record: ArrayRecord) -> dict[str, Tensor]:
    """Read the model that many nodes of one process received, once for all of them.

    Notes
    -----
    The tensors are shared between callers, and not to be written to. What tells a model is the identity of the immutable
    ``data`` bytes.
    """
    form = [(name, array.dtype, array.shape, array.stype) for name, array in record.items()]
    return _MODEL.get([array.data for array in record.values()], form, lambda: _readable(record))


def _readable(record: ArrayRecord) -> dict[str, Tensor]:
    try:
        return from_arrays(record)
    except WireError as error:
        raise ConfigurationError(f"the model cannot be read: {error}") from error
