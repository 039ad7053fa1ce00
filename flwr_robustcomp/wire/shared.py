"""Arrays of which a process has one copy, however many nodes unpickle them: stock simulation sends every node's state about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from flwr.app import Array, ArrayRecord
from torch import Tensor

from flwr_robustcomp.wire.dense import to_arrays

__all__ = ["SharedArray", "shared_arrays"]


class SharedArray(Array):
    """An Array that is pickled as any other, and becomes one object in each process that unpickles it; not to be written to.

    Notes
    -----
    Under `flwr run`, Flower's simulation keeps the `Context` of all m nodes in one process, and hands them to Ray's workers and
    takes them back as pickles. Without this class, m nodes with one replica would cost that process m copies of it. A copy is
    a plain Array: what user code gets is its own.

    Examples
    --------
    >>> import copy, pickle, torch
    >>> from flwr_robustcomp.wire.shared import shared_arrays
    >>> kept = shared_arrays({"w": torch.ones(3)})
    >>> one, other = pickle.loads(pickle.dumps(kept)), pickle.loads(pickle.dumps(kept))
    >>> one["w"] is other["w"], type(copy.copy(one["w"])).__name__
    (True, 'Array')
    """

    def __reduce__(self) -> Any:
        """Return how it is unpickled."""
        return _the_one, (self.dtype, tuple(self.shape), self.stype, self.data)

    def __copy__(self) -> Array:
        """Return a plain Array with the same bytes."""
        return Array(self.dtype, tuple(self.shape), self.stype, self.data)


_KNOWN: WeakValueDictionary[bytes, SharedArray] = WeakValueDictionary()


def _the_one(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> SharedArray:
    """Return this process's Array with such content."""
    digest = hashlib.blake2b(f"{dtype}\0{shape}\0{stype}\0".encode(), digest_size=32)
    digest.update(data)
    return _KNOWN.setdefault(digest.digest(), SharedArray(dtype, shape, stype, data))


def shared_arrays(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Return tensors as such Arrays."""
    shared = ArrayRecord()  # filled by item: its constructor copies Arrays
    for name, one in to_arrays(dict(tensors)).items():
        shared[name] = _the_one(one.dtype, tuple(one.shape), one.stype, one.data)
    return shared
