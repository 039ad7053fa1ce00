"""What travels between a server and a node because of the downlink, and how each side reads the other's.

*Down:* the model's ArrayRecord holds packed Arrays in the place of dense ones, and the record `HEADER` says what they are.
*Up:* the reply to such a message has a record `HELD`, the version that the node now holds, or is a `RESEND` and nothing else.

Nothing here believes what it reads: a node may have a lying server or proxy, and a server has lying nodes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from flwr.app import Array, ArrayRecord, RecordDict
from pydantic import Field

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import DTYPES, dtype_name
from flwr_robustcomp.downlink.form import Form
from flwr_robustcomp.downlink.replica import Added, Change, Part, Replaced, Replica, kept_dtype
from flwr_robustcomp.downlink.typed_record import TypedRecord
from flwr_robustcomp.errors import WireError

__all__ = [
    "HEADER",
    "HELD",
    "NOTHING",
    "RESEND",
    "Header",
    "Held",
    "Kept",
    "Resend",
    "array_bytes",
    "arrays_digest",
    "change_record",
    "narrow_dtypes",
    "part_of",
    "read_changes",
    "read_snapshot",
    "shares_data",
    "snapshot_record",
]

HEADER = "robustcomp.downlink"
"""Name of the ConfigRecord in a server's message."""

HELD = "robustcomp.replica"
"""Name of the ConfigRecord in a node's reply that says what the node holds, and of what it keeps."""

RESEND = "robustcomp.resend"
"""Name of the ConfigRecord in a node's reply that asks for the message again, in a form that it can read."""

Version = Annotated[int, Field(ge=0, lt=2**32)]
"""Rotations are numbered by 32 bits."""

Digest = Annotated[str, Field(max_length=16)]
"""Empty for version 0, which has no content."""


Names = Annotated[tuple[str, ...], Field(strict=False)]
"""Flower has lists in the place of tuples."""


_MOST_SIDES = 32
"""As many as an array has in every numpy."""


class Held(TypedRecord):
    """Which version of the replica somebody holds; version 0 is none.

    Examples
    --------
    >>> from flwr_robustcomp.downlink.records import Held
    >>> Held.read(Held(version=3, digest="00ff00ff00ff00ff").record()).version
    3
    """

    version: Version = 0
    digest: Digest = ""

    def __str__(self) -> str:
        return f"version {self.version} ({self.digest})" if self.version else "no version"


NOTHING = Held()
"""What a node holds that keeps no replica."""


class Resend(Held):
    """What a node holds that cannot read what it got, and why it cannot."""

    why: Annotated[str, Field(max_length=200)] = ""


class Kept(Held):
    """What a node keeps beside the arrays of a replica: which version they are, and the model's dtypes."""

    format: Literal[1] = 1
    dtypes: Names = ()

    @property
    def held(self) -> Held:
        """The version alone."""
        return Held(version=self.version, digest=self.digest)


class Header(TypedRecord):
    """What a server's message says of the model in it.

    Attributes
    ----------
    form : Form
        How it travels.
    key : str
        Of its ArrayRecord.
    base, base_digest : int, str
        The version that the node must hold to read it; 0 for none.
    version, digest : int, str
        The version that the node then holds; 0 where it keeps nothing.
    dtypes : tuple of str
        Of a dense replica: the model's dtype of each array, where one is kept in another.
    """

    format: Literal[1] = 1
    form: Annotated[Form, Field(strict=False)]
    key: str
    base: Version = 0
    base_digest: Digest = ""
    version: Version = 0
    digest: Digest = ""
    dtypes: Names = ()

    @classmethod
    def between(cls, key: str, base: Held, target: Held) -> Self:
        """Return that of a message that leads from one version to another."""
        versions = {"base": base.version, "base_digest": base.digest, "version": target.version, "digest": target.digest}
        return cls(form=Form.REPLICA, key=key, **versions)  # type: ignore[arg-type]

    @property
    def source(self) -> Held:
        """What the node must hold."""
        return Held(version=self.base, digest=self.base_digest)

    @property
    def target(self) -> Held:
        """What the node then holds."""
        return Held(version=self.version, digest=self.digest)


# -- written by the server ------------------------------------------------------------------------------------------------


def change_record(change: Change, version: int | None = None) -> ArrayRecord:
    """Return a change as Arrays; where it makes a version of the replica, their names begin with that."""
    record = ArrayRecord()
    for name, part in change.items():
        record[name if version is None else f"{version}:{name}"] = _array_of(part)
    return record


def _array_of(part: Part) -> Array:
    return wire.pack(part.payload, part.compressor) if isinstance(part, Added) else wire.to_array(part.tensor)


def snapshot_record(replica: Replica) -> ArrayRecord:
    """Return a whole replica as dense Arrays."""
    return wire.to_arrays(replica.arrays)


def narrow_dtypes(replica: Replica) -> tuple[str, ...]:
    """Return the model's dtype of each array, where one is kept in another; else nothing."""
    if all(kept_dtype(dtype) == dtype for dtype in replica.dtypes.values()):
        return ()
    return tuple(dtype_name(dtype) if dtype in DTYPES.values() else "" for dtype in replica.dtypes.values())


def array_bytes(content: RecordDict | ArrayRecord) -> int:
    """Return the bytes of Array data in a message's content, or in one record."""
    records = [content] if isinstance(content, ArrayRecord) else list(content.array_records.values())
    return sum(len(array.data) for record in records for array in record.values())


def shares_data(one: ArrayRecord, other: ArrayRecord) -> bool:
    """Whether two records hold the very same bytes under the same names; equal bytes elsewhere in memory do not count."""
    if one is other:
        return True
    return [*one] == [*other] and all(a.data is b.data for a, b in zip(one.values(), other.values(), strict=True))


def arrays_digest(arrays: ArrayRecord) -> str:
    """Return a hash of the arrays of a model, packed or dense, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, array in arrays.items():
        digest.update(f"\0{name}\0{array.stype}\0{array.dtype}\0{tuple(array.shape)}\0{len(array.data)}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()


# -- read by the node -----------------------------------------------------------------------------------------------------


def read_changes(arrays: Mapping[str, Array], header: Header) -> list[dict[str, Array]]:
    """Return the Arrays of the changes from the base to the target, in order.

    Raises
    ------
    WireError
        If an Array is not of one of these changes.
    """
    first, last = header.base + 1, header.version
    if not 0 <= last + 1 - first <= len(arrays):  # no change is empty, and so the Arrays that came bound their number
        raise WireError(f"version must be {first - 1} to {first - 1 + len(arrays)}, got {last}")
    changes: list[dict[str, Array]] = [{} for _ in range(first, last + 1)]
    for label, array in arrays.items():
        number, mark, name = label.partition(":")
        if not mark or not number.isascii() or not number.isdecimal() or len(number) > 10 or not first <= int(number) <= last:
            raise WireError(f"an array must be of version {first} to {last}, got {label[:64]!r}")
        changes[int(number) - first][name] = array
    if not all(changes):
        raise WireError(f"every version from {first} to {last} must have an array")
    return changes


def part_of(array: Array, name: str, replica: Replica) -> Part:
    """Read one array's part of a change.

    Parameters
    ----------
    array : Array
        Foreign.
    name : str
        Of the array.
    replica : Replica
        What the change is to be added to. Where it has no arrays yet, the Array itself says shape and dtype; then only
        compressors whose size follows from the shape are read, so that the bytes that came bound what is allocated.

    Raises
    ------
    WireError
        For anything that no honest server sends.
    """
    old = replica.arrays.get(name)
    if old is None and replica.version:
        raise WireError(f"the replica has no array {name[:64]!r}")
    if not wire.is_packed(array):
        return Replaced(wire.read_dense(array, None if old is None else tuple(old.shape), replica.dtypes.get(name)))
    compressor = wire.compressor_of(array)
    if not compressor.exact_decode or compressor.wants_matrices:
        raise WireError(f"a model is not sent by {compressor.codec!r}")
    if old is not None:
        dtype = replica.dtypes[name]
        if dtype not in DTYPES.values():
            raise WireError(f"array {name[:64]!r} is of {dtype}, which is not packed")
        return Added(compressor, wire.read_packed(array, compressor, tuple(old.shape), dtype))
    if not compressor.exact_size or compressor.sparse:
        raise WireError(f"a whole model is not sent by {compressor.codec!r}")
    if array.dtype not in DTYPES or not _is_shape(array.shape):
        raise WireError(f"a packed array must have a shape and one of {', '.join(DTYPES)}, got {array.dtype[:32]!r}")
    if math.prod(array.shape) > (most := 8 * len(array.data)):
        raise WireError(f"a packed array of {len(array.data)} bytes has at most {most} coordinates, got {array.shape[:8]}")
    return Added(compressor, wire.read_packed(array, compressor, tuple(array.shape), DTYPES[array.dtype]))


def _is_shape(shape: Sequence[object]) -> bool:
    return len(shape) <= _MOST_SIDES and all(type(side) is int and side > 0 for side in shape)


def read_snapshot(arrays: Mapping[str, Array], version: int, narrow: Sequence[str]) -> Replica:
    """Read a whole replica.

    Parameters
    ----------
    arrays : mapping of str to Array
        Dense, as they are kept.
    version : int
        Its version.
    narrow : sequence of str
        The model's dtype of each array, as `narrow_dtypes` returns it.

    Raises
    ------
    WireError
        If an Array is not dense, or is kept in another dtype than it is said to be.
    """
    tensors = {name: wire.read_dense(array) for name, array in arrays.items()}
    if narrow and len(narrow) != len(tensors):
        raise WireError(f"dtypes must be {len(tensors)} names, got {len(narrow)}")
    named = narrow or [""] * len(tensors)
    dtypes = {name: DTYPES.get(one, tensor.dtype) for (name, tensor), one in zip(tensors.items(), named, strict=True)}
    for name, tensor in tensors.items():
        if kept_dtype(dtypes[name]) != tensor.dtype:
            raise WireError(f"array {name[:64]!r} of {dtypes[name]} is not kept in {tensor.dtype}")
    return Replica(version, tensors, dtypes)
