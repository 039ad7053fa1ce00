"""Flower's records as JSON and a list of byte strings, and back; exact, and without a pickle."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

__all__ = ["describe", "rebuild"]

_KINDS: dict[str, type[ArrayRecord] | type[MetricRecord] | type[ConfigRecord]] = {
    "arrays": ArrayRecord,
    "metrics": MetricRecord,
    "config": ConfigRecord,
}


def describe(records: RecordDict, add: Callable[[bytes], int]) -> list[Any]:
    """Return records as a JSON value.

    Parameters
    ----------
    records : RecordDict
        What to describe; not changed.
    add : callable
        Takes the bytes of an Array out of the JSON; returns the number to find them by.

    Returns
    -------
    list
        ``[name, kind, [[key, value], ...]]`` for each record, in order. Floats are exact: Python writes the shortest decimal
        that reads back as the same number, and NaN and infinity by name.
    """
    return [
        [name, kind, [[key, _value(value, add)] for key, value in record.items()]]
        for name, record in records.items()
        for kind, type_ in _KINDS.items()
        if isinstance(record, type_)
    ]


def rebuild(described: list[Any], find: Callable[[int], bytes]) -> RecordDict:
    """Return the records that `describe` described; ``find`` returns the bytes of an Array by their number."""
    records = RecordDict()
    for name, kind, items in described:
        record = _KINDS[kind]()
        for key, value in items:
            record[key] = _original(value, find)
        records[name] = record
    return records


def _value(value: Any, add: Callable[[bytes], int]) -> Any:
    if isinstance(value, Array):
        return {"dtype": value.dtype, "shape": list(value.shape), "stype": value.stype, "bytes": add(value.data)}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return [_value(one, add) for one in value] if isinstance(value, list) else value


def _original(value: Any, find: Callable[[int], bytes]) -> Any:
    if isinstance(value, list):
        return [_original(one, find) for one in value]
    if not isinstance(value, dict):
        return value
    if "base64" in value:
        return base64.b64decode(value["base64"], validate=True)
    return Array(value["dtype"], tuple(value["shape"]), value["stype"], find(value["bytes"]))
