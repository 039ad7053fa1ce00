"""How many bytes a reply has, and how many it may have."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, Message, RecordDict

from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies.replies import Rejected
from flwr_robustcomp.strategies.report import Reason

__all__ = ["array_bytes", "check_size", "most_bytes"]

_BESIDES = 1 << 20
"""Bytes that a reply may hold beside its arrays: names, metrics, and the records of the user's own mods."""


def array_bytes(message: Message) -> int:
    """Return the bytes of Array data in a reply, which the reports count."""
    if not message.has_content():
        return 0
    records = (record for record in message.content.values() if isinstance(record, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())


def most_bytes(layout: Layout) -> int:
    """Return how many bytes a reply to a model may have: no compressor's payload is twice as long as the dense model."""
    slots = (*layout.compressed, *layout.uncompressed)
    return 2 * sum(slot.shape.numel() * slot.dtype.itemsize for slot in slots) + _BESIDES


def check_size(content: RecordDict, most: int) -> None:
    """Reject a reply of more bytes than ``most``, whichever records, lists and names they are in."""
    size = 0
    for name, record in content.items():
        size += len(name)
        for key, value in record.items():
            size += len(key) + (len(value.data) if isinstance(value, Array) else _bytes_of(value))
    if size > most:
        raise Rejected(Reason.SIZE, f"a reply to this model has at most {most} bytes, got {size}")


def _bytes_of(value: object) -> int:
    if isinstance(value, list):
        return sum(map(_bytes_of, value))
    if isinstance(value, str | bytes):
        return len(value)
    return max(8, value.bit_length() // 8) if isinstance(value, int) else 8
