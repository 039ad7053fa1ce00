"""How large a reply may be. Counting ends where a bound is passed, so that an oversized reply costs no more than the bound."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from flwr.app import Array, Message

from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies.replies.common import Rejected
from flwr_robustcomp.strategies.report import Reason

__all__ = ["EVALUATION", "MODELS", "Limits", "Size", "check_size", "size_of", "training_limits"]

MODELS = 2.0
"""How many times as large as the dense model a reply may be: no compressor's payload is twice as long as the model."""

_MAX_RECORDS = 16
"""A reply of ours has three: arrays, metrics, norms. The others are for mods of the user's own."""

_BESIDES = 1 << 20
"""Bytes that a reply may hold beside its arrays: names, metrics, and the records of the user's own mods."""

_ENTRY = 64
"""Bytes that an entry counts beside its name and value. Python needs more, and so _BESIDES bounds the number of entries too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many bytes a reply may have.

    Attributes
    ----------
    total : int
        Altogether.
    besides : int
        Of these, outside of the data of Arrays.
    """

    total: int
    besides: int


@dataclass(slots=True)
class Size:
    """What was counted of a reply: all of it, or enough to know that it is too large.

    Attributes
    ----------
    records : int
        All of them.
    arrays : int
        Bytes of Array data.
    besides : int
        Bytes of everything else.
    """

    records: int = 0
    arrays: int = 0
    besides: int = 0

    def within(self, limits: Limits) -> bool:
        """Whether what was counted so far is allowed."""
        return self.besides <= limits.besides and self.arrays + self.besides <= limits.total


EVALUATION = Limits(_BESIDES, _BESIDES)
"""Of an evaluation reply, which carries no arrays of ours."""


def training_limits(layout: Layout, models: float = MODELS) -> Limits:
    """Return the limits of a reply to a model: so many dense models, whichever ArrayRecords their bytes are in."""
    slots = (*layout.compressed, *layout.uncompressed)
    besides = _BESIDES + sum(_ENTRY + len(slot.name) for slot in slots)
    return Limits(int(models * sum(slot.shape.numel() * slot.dtype.itemsize for slot in slots)) + besides, besides)


def size_of(message: Message, limits: Limits) -> Size:
    """Count a reply's records and bytes, whichever records, lists and names they are in, until one of the limits is passed."""
    size = Size()
    if not message.has_content():
        return size
    size.records = len(message.content)
    for name, record in islice(message.content.items(), _MAX_RECORDS):
        size.besides += _ENTRY + len(name)
        for key, value in record.items():
            if not size.within(limits):
                return size
            size.besides += _ENTRY + len(key)
            if isinstance(value, Array):
                size.arrays += len(value.data)
                size.besides += len(value.stype) + len(value.dtype) + 8 * len(value.shape)
            else:
                size.besides += _bytes_of(value, limits.besides)
    return size


def check_size(size: Size, limits: Limits) -> None:
    """Reject a reply of too many records or bytes."""
    if size.records > _MAX_RECORDS:
        raise Rejected(Reason.RECORDS, f"a reply holds at most {_MAX_RECORDS} records, got {size.records}")
    if not size.within(limits):
        allowed = f"{limits.total} bytes, {limits.besides} of them outside of arrays"
        counted = f"{size.arrays} bytes in arrays and {size.besides} outside"
        raise Rejected(Reason.SIZE, f"this reply may have at most {allowed}, got {counted} when counting ended")


def _bytes_of(value: object, most: int) -> int:
    """Return the bytes of a value, or as many as are more than ``most``."""
    if not isinstance(value, list):
        return _scalar_bytes(value)
    size = 8 * len(value)
    for entry in value if size <= most else ():
        size += max(0, _scalar_bytes(entry) - 8)
        if size > most:
            break
    return size


def _scalar_bytes(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return max(8, value.bit_length() // 8) if isinstance(value, int) else 8
