"""Tensors as Flower Arrays: Flower's own ``numpy.ndarray``, or, for bfloat16, which numpy lacks, the identity codec."""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from flwr_robustcomp.compressors import dtype_name, working_dtype
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import ConfigurationError, WireError
from flwr_robustcomp.one_slot import OneSlot
from flwr_robustcomp.wire.packed import IDENTITY, pack, read_packed, stype_of

__all__ = ["dense_values", "from_arrays", "read_dense", "shared_tensors", "to_array", "to_arrays"]

_NUMPY = "numpy.ndarray"
_MAX_HEADER = 4096  # an honest npy header of plain numbers has about a hundred bytes, and parsed ones are cached
_WARNED_OF = re.compile(rb"\\|[0-9][a-zA-Z]")  # in no honest header; Python 3.12 warns of some on stderr, thread-unsafely muted

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
        return pack(IDENTITY.compress(tensor), IDENTITY)
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
    if array.stype == stype_of(IDENTITY) and array.dtype == "bfloat16" and dtype in (None, torch.bfloat16):
        own_shape = tuple(array.shape) if shape is None else shape
        return IDENTITY.decompress(read_packed(array, IDENTITY, own_shape, torch.bfloat16))
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
