"""Flower's records as JSON and a list of byte strings, and back; exact, and without a pickle."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from flwr_robustcomp.checkpoints.fields import field, typed, whole

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


def rebuild(described: Any, find: Callable[[int], bytes]) -> RecordDict:
    """Return the records that `describe` described.

    Parameters
    ----------
    described : JSON value
        Checked here: a file may hold anything.
    find : callable
        Returns the bytes of an Array by their number; raises ValueError or LookupError where there are none.

    Raises
    ------
    ValueError
        If `describe` returns no such value.
    """
    records = RecordDict()
    for one in typed(described, list, "records"):
        name, kind, items = _row(one, "a record", "its name, kind and items")
        typed(name, str, "a record's name")
        if not isinstance(kind, str) or kind not in _KINDS or name in records:
            raise ValueError(f"record {name!r} must be there once, and be one of {', '.join(_KINDS)}")
        record = _KINDS[kind]()
        for pair in typed(items, list, f"the items of record {name!r}"):
            key, value = _row(pair, f"an item of record {name!r}", "its key and value")
            try:
                record[key] = _original(value, find)
            except TypeError as error:  # Flower's: a value that this kind of record cannot hold
                raise ValueError(f"item {key!r} of record {name!r}: {error}") from error
        if len(record) != len(items):
            raise ValueError(f"record {name!r} must have each key once")
        records[name] = record
    return records


def _value(value: Any, add: Callable[[bytes], int]) -> Any:
    if isinstance(value, Array):
        return {"dtype": value.dtype, "shape": list(value.shape), "stype": value.stype, "bytes": add(value.data)}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return [_value(one, add) for one in value] if isinstance(value, list) else value


def _row(value: Any, what: str, of: str) -> list[Any]:
    """Return a list of as many entries as ``of`` names."""
    count = of.count(",") + of.count(" and ") + 1
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{what} must be a list of {of}")
    return value


def _original(value: Any, find: Callable[[int], bytes]) -> Any:
    if isinstance(value, list):
        return [_scalar(one) for one in value]
    if isinstance(value, dict) and "base64" not in value:
        shape = tuple(whole(one, "a length in a shape") for one in typed(field(value, "shape", "an array"), list, "a shape"))
        dtype, stype = (typed(field(value, name, "an array"), str, name) for name in ("dtype", "stype"))
        return Array(dtype, shape, stype, find(whole(field(value, "bytes", "an array"), "the number of an array's bytes")))
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(typed(field(value, "base64", "a string of bytes"), str, "base64"), validate=True)
    return value
