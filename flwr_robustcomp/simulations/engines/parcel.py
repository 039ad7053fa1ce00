"""How contents and replies travel between Ray's processes: a pickle, with the bytes of large arrays beside it."""

from __future__ import annotations

import copyreg
import io
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array

__all__ = ["Parcel", "seal", "unseal"]

_APART_BYTES = 65536
"""Arrays of at least this size travel beside the pickle. A content without any travels with the call, past the object store."""

Parcel = tuple[bytes, list[int], list[npt.NDArray[np.uint8]]]
"""Pickled objects; for each large Array in them the place of its bytes; and those bytes, each once."""


def seal(value: Any) -> Parcel:
    """Pickle in C, where Ray calls back into Python for every object; dressed as numpy arrays, bytes are not copied twice."""
    order: list[int] = []
    blobs: dict[int, npt.NDArray[np.uint8]] = {}
    place: dict[int, int] = {}

    def reduce(array: Array) -> Any:
        data = array.data
        if len(data) < _APART_BYTES:
            return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        blobs.setdefault(id(data), np.frombuffer(data, np.uint8))
        order.append(place.setdefault(id(data), len(place)))
        return Array, (array.dtype, array.shape, array.stype, pickle.PickleBuffer(data))

    stream = io.BytesIO()
    # A callback that returns nothing keeps the buffer out of the stream.
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=lambda buffer: None)
    pickler.dispatch_table = {**copyreg.dispatch_table, Array: reduce}
    pickler.dump(value)
    return stream.getvalue(), order, list(blobs.values())


def unseal(parcel: Parcel) -> Any:
    """Return what `seal` packed, the bytes of its large Arrays copied out of Ray's store once each."""
    objects, order, blobs = parcel
    data = [blob.tobytes() for blob in blobs]
    return pickle.loads(objects, buffers=[data[i] for i in order])
