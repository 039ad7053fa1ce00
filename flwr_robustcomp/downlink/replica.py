"""The replica v that server and nodes share, and its arithmetic: the same bits on every machine.

Each array is kept and changed by itself, in working precision: float32 for the half types, float64 for float64. A change is
added elementwise, in the order of the versions, and what it adds is unpacked by a compressor whose ``decode`` is exact. So v
does not depend on the processor, on BLAS or on threads. The `Replica.digest` says so of every version.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from flwr_robustcomp.compressors import DTYPES, Compressor, Payload, working_dtype
from flwr_robustcomp.compressors.values import is_finite
from flwr_robustcomp.errors import WireError

__all__ = ["Added", "Change", "Part", "Replaced", "Replica", "change_to", "kept_dtype", "packed_size"]

_COMPRESSIBLE = frozenset(DTYPES.values())


def kept_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which the replica keeps an array of the model's."""
    return working_dtype(dtype) if dtype in _COMPRESSIBLE else dtype


@dataclass(frozen=True)
class Added:
    """A packed difference, to be added to an array; what was not there counts as zeros."""

    compressor: Compressor
    payload: Payload

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.payload.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's array; the replica's own is `kept_dtype`."""
        return self.payload.dtype

    def onto(self, old: Tensor | None) -> Tensor:
        """Return old + Q(x), elementwise in working precision."""
        x = self.compressor.decompress(self.payload).to(kept_dtype(self.dtype))
        return x if old is None else torch.add(old, x)


@dataclass(frozen=True)
class Replaced:
    """The array itself, to stand in the place of the old one: exact, for what is small or must not be rounded."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's array."""
        return self.tensor.dtype

    def onto(self, old: Tensor | None) -> Tensor:
        """Return the array in the dtype in which it is kept."""
        return self.tensor.to(kept_dtype(self.dtype))


Part = Added | Replaced
"""What a change does to one array."""

Change = Mapping[str, Part]
"""What turns one version into the next, by the names of arrays; arrays that are not named stay as they are."""


@dataclass(frozen=True)
class Replica:
    """One version of v.

    Attributes
    ----------
    version : int
        How many changes made it; 0 is the replica without arrays, which a node holds at first.
    arrays : mapping of str to Tensor
        In the model's order, each of `kept_dtype`; not to be written to.
    dtypes : mapping of str to torch.dtype
        The model's own.
    """

    version: int
    arrays: Mapping[str, Tensor]
    dtypes: Mapping[str, torch.dtype]

    @classmethod
    def empty(cls) -> Replica:
        """Return version 0."""
        return cls(0, {}, {})

    @classmethod
    def of(cls, version: int, model: Mapping[str, Tensor]) -> Replica:
        """Return the replica that is a model, exactly."""
        arrays = {name: tensor.to(kept_dtype(tensor.dtype)) for name, tensor in model.items()}
        return cls(version, arrays, {name: tensor.dtype for name, tensor in model.items()})

    @property
    def size(self) -> int:
        """Bytes of its arrays, as they are kept."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.arrays.values())

    def after(self, change: Change) -> Replica:
        """Return the next version.

        Raises
        ------
        WireError
            For an array that the replica does not have, or of another shape or dtype. Version 0 takes any.
        """
        for name, part in change.items():
            known = self.arrays.get(name)
            if known is None and self.version:
                raise WireError(f"the replica has no array {name[:64]!r}")
            if known is not None and (tuple(known.shape), self.dtypes[name]) != (part.shape, part.dtype):
                has = f"{tuple(known.shape)[:8]} of {self.dtypes[name]}"
                raise WireError(f"array {name[:64]!r} must be {has}, got {part.shape[:8]} of {part.dtype}")
        arrays = {**self.arrays, **{name: part.onto(self.arrays.get(name)) for name, part in change.items()}}
        return Replica(self.version + 1, arrays, {**self.dtypes, **{name: part.dtype for name, part in change.items()}})

    def model(self) -> dict[str, Tensor]:
        """Return v in the model's dtypes."""
        return {name: tensor.to(self.dtypes[name]) for name, tensor in self.arrays.items()}

    @functools.cached_property
    def digest(self) -> str:
        """Hash of version and content, 16 hexadecimal digits."""
        digest = hashlib.blake2b(str(self.version).encode(), digest_size=8)
        for name, tensor in self.arrays.items():
            digest.update(f"\0{name}\0{self.dtypes[name]}\0{tuple(tensor.shape)}\0".encode())
            digest.update(_bytes(tensor))
        return digest.hexdigest()


def change_to(
    model: Mapping[str, Tensor], replica: Replica, compressor: Compressor | None, uncompressed: Sequence[str]
) -> dict[str, Part]:
    """Return the change that brings a replica towards a model.

    Parameters
    ----------
    model : mapping of str to Tensor
        w, with the arrays of the replica unless that is version 0.
    replica : Replica
        v.
    compressor : Compressor or None
        What differences go through; None to replace every array that is not the same.
    uncompressed : sequence of str
        Shell patterns of floating arrays that are replaced.

    Returns
    -------
    dict of str to Part
        Nothing for an array that is the same in both. A difference is packed where that is smaller than the array itself and
        it can be: integers, and numbers that are not finite, replace the old ones.
    """
    parts: dict[str, Part] = {}
    for name, tensor in model.items():
        old = replica.arrays.get(name)
        if old is not None and torch.equal(old, tensor.to(old.dtype)):
            continue
        small = compressor is not None and packed_size(tensor, name, compressor, uncompressed) is not None
        packed = _packed(tensor, old, compressor) if compressor is not None and small else None
        parts[name] = Replaced(tensor.detach().clone()) if packed is None else packed
    return parts


def packed_size(tensor: Tensor, name: str, compressor: Compressor, uncompressed: Sequence[str]) -> int | None:
    """Return how many bytes an array takes through a compressor; None where it goes as it is.

    That is: where it must not be rounded or is not finite, or the array itself is as small.
    """
    named = any(fnmatchcase(name, pattern) for pattern in uncompressed)
    if named or tensor.dtype not in _COMPRESSIBLE or not tensor.numel():
        return None
    if not is_finite(tensor.detach().reshape(-1)):  # such as the mask of a transformer
        return None
    size = compressor.encoded_size(tensor.numel(), tensor.dtype)
    return size if size < tensor.numel() * tensor.element_size() else None


def _packed(tensor: Tensor, old: Tensor | None, compressor: Compressor) -> Added | None:
    """Return the packed difference; None where it cannot be sent."""
    dtype = tensor.dtype
    wide = tensor.detach().to(kept_dtype(dtype))
    x = (wide if old is None else wide - old).to(dtype)
    if not is_finite(x.reshape(-1)):
        return None
    added = Added(compressor, compressor.compress(x))
    return added if is_finite(added.onto(old).to(dtype).reshape(-1)) else None


def _bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor that lies in memory in its own order."""
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
