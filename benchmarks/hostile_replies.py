"""Replies that no honest client sends, packed or dense, each with the reason that ours must reject it for."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from flwr_robustcomp import wire
from flwr_robustcomp.strategies import Reason

NAN = float("nan")


def _array(reply: Message) -> Array:
    record = reply.content["arrays"]
    if not isinstance(record, ArrayRecord):
        raise TypeError("an honest reply holds its ArrayRecord under 'arrays'")
    return next(iter(record.values()))


def _name(reply: Message) -> str:
    record = reply.content["arrays"]
    return str(next(iter(record)))


def _set(**fields: Any) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        array = _array(reply)
        for field, value in fields.items():
            setattr(array, field, value(array) if callable(value) else value)
        return reply

    return change


def _metrics(**values: Any) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        reply.content["metrics"] = MetricRecord({key.replace("_", "-"): value for key, value in values.items()})
        return reply

    return change


def _content(make: Callable[[Message], RecordDict]) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        reply.content = make(reply)
        return reply

    return change


def _arrays(reply: Message, arrays: dict[str, Array]) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 3})})


def _scale(value: float) -> Callable[[Message], Message]:
    """Write a scale, or into a dense array the value itself, everywhere."""

    def data(array: Array) -> bytes:
        if wire.is_packed(array):
            return struct.pack("<d", value) + array.data[8:]
        with np.errstate(over="ignore"):
            return Array(np.full(array.shape, value).astype(array.dtype)).data

    return _set(data=data)


def _error(reply: Message) -> Message:
    return Message(Error(3, "out of memory"), reply_to=_back(reply))


def _back(reply: Message) -> Message:
    """Return something whose reply seems to come from the same node."""
    return Message(RecordDict(), reply_to=reply)


def _metadata(**fields: Any) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        reply.metadata.__dict__.update({f"_{name}": value for name, value in fields.items()})
        return reply

    return change


def _stranger(reply: Message) -> Message:
    reply.metadata.__dict__["_src_node_id"] = 424242
    return reply


def _norm(value: Any) -> Callable[[Message], Message]:
    return _content(lambda r: RecordDict({**r.content, wire.NORM_RECORD: ConfigRecord({"norm-2": value})}))


HOSTILE: dict[str, tuple[Reason, Callable[[Message], Message]]] = {
    "error reply": (Reason.ERROR_REPLY, _error),
    "a node that was not asked": (Reason.NOT_ASKED, _stranger),
    "a reply to another message": (Reason.NOT_ASKED, _metadata(reply_to_message_id="another")),
    "a reply of another type": (Reason.NOT_ASKED, _metadata(message_type="evaluate")),
    "hundreds of config records": (
        Reason.RECORDS,
        _content(lambda r: RecordDict({**r.content, **{f"c{i}": ConfigRecord({"k": i}) for i in range(300)}})),
    ),
    "no records": (Reason.RECORDS, _content(lambda r: RecordDict())),
    "no arrays": (Reason.RECORDS, _content(lambda r: RecordDict({"metrics": MetricRecord({"num-examples": 3})}))),
    "two array records": (
        Reason.RECORDS,
        _content(lambda r: RecordDict({"a": ArrayRecord({"x": _array(r)}), "b": ArrayRecord({"x": _array(r)})})),
    ),
    "hundreds of metric records": (
        Reason.RECORDS,
        _content(
            lambda r: RecordDict({"arrays": r.content["arrays"], **{f"m{i}": MetricRecord({"a": i}) for i in range(300)}})
        ),
    ),
    "empty array record": (Reason.ARRAYS, _content(lambda r: _arrays(r, {}))),
    "thousands of arrays": (Reason.ARRAYS, _content(lambda r: _arrays(r, {f"a{i}": _array(r) for i in range(5000)}))),
    "renamed array": (Reason.ARRAYS, _content(lambda r: _arrays(r, {"weights": _array(r)}))),
    "an extra array": (Reason.ARRAYS, _content(lambda r: _arrays(r, {_name(r): _array(r), "more": _array(r)}))),
    "a name of a megabyte": (Reason.ARRAYS, _content(lambda r: _arrays(r, {"x" * 2**20: _array(r)}))),
    "dense weights": (Reason.WIRE, _content(lambda r: _arrays(r, {_name(r): Array(np.ones(23, np.float64))}))),
    "wrong stype": (Reason.WIRE, _set(stype="pickle")),
    "another codec": (Reason.WIRE, _set(stype="robustcomp/sign/1")),
    "another version": (Reason.WIRE, _set(stype="robustcomp/l1-sign/2")),
    "wrong dtype": (Reason.WIRE, _set(dtype="float64")),
    "wrong shape": (Reason.WIRE, _set(shape=(24,))),
    "a shape of terabytes": (Reason.WIRE, _set(shape=(2**45,))),
    "a shape too long to write": (Reason.UNREADABLE, _set(shape=(10**5000,))),
    "no bytes at all": (Reason.UNREADABLE, _set(data=None)),
    "a negative shape": (Reason.WIRE, _set(shape=(-23,))),
    "empty bytes": (Reason.WIRE, _set(data=b"")),
    "truncated bytes": (Reason.WIRE, _set(data=lambda a: a.data[:-1])),
    "over-long bytes": (Reason.WIRE, _set(data=lambda a: a.data + b"\0")),
    "a megabyte of garbage": (Reason.WIRE, _set(data=bytes(range(256)) * 4096)),
    "padding bits": (Reason.WIRE, _set(data=lambda a: a.data[:-1] + b"\xff")),
    "NaN scale": (Reason.WIRE, _scale(NAN)),
    "infinite scale": (Reason.WIRE, _scale(math.inf)),
    "minus infinite scale": (Reason.WIRE, _scale(-math.inf)),
    "subnormal scale": (Reason.WIRE, _scale(5e-324)),
    "negative scale": (Reason.WIRE, _scale(-1.0)),
    "negative zero scale": (Reason.WIRE, _scale(-0.0)),
    "a scale beyond float32": (Reason.WIRE, _scale(1e300)),
    "a scale between two float32": (Reason.WIRE, _scale(0.1)),
    "NaN metric": (Reason.METRICS, _metrics(num_examples=3, loss=NAN)),
    "infinite metric in a list": (Reason.METRICS, _metrics(num_examples=3, losses=[0.5, math.inf])),
    "negative num-examples": (Reason.METRICS, _metrics(num_examples=-5)),
    "zero num-examples": (Reason.METRICS, _metrics(num_examples=0)),
    "huge num-examples": (Reason.METRICS, _metrics(num_examples=10**300)),
    "more num-examples than a float counts": (Reason.METRICS, _metrics(num_examples=2**53 + 1)),
    "num-examples too long to write": (Reason.METRICS, _metrics(num_examples=10**5000)),
    "thousands of metrics": (Reason.METRICS, _metrics(num_examples=3, **{f"m{i}": i for i in range(5000)})),
    "a list of a million": (Reason.METRICS, _metrics(num_examples=3, losses=[0.5] * 10**6)),
    "a metric's name of a megabyte": (Reason.METRICS, _metrics(**{"num-examples": 3, "x" * 2**20: 1})),
    "NaN num-examples": (Reason.METRICS, _metrics(num_examples=NAN)),
    "list of num-examples": (Reason.METRICS, _metrics(num_examples=[3, 3])),
    "an error of a megabyte": (Reason.ERROR_REPLY, lambda r: Message(Error(3, "x" * 2**20), reply_to=_back(r))),
    "renamed array record": (Reason.RECORDS, _content(lambda r: RecordDict({"arrays": MetricRecord({"num-examples": 3})}))),
    "hundreds of array records": (
        Reason.RECORDS,
        _content(lambda r: RecordDict({f"a{i}": ArrayRecord({_name(r): _array(r)}) for i in range(300)})),
    ),
    "hundreds of arrays": (Reason.ARRAYS, _content(lambda r: _arrays(r, {f"a{i}": _array(r) for i in range(300)}))),
    "a dtype that is none": (Reason.WIRE, _set(dtype="O")),
    "a stype of a megabyte": (Reason.WIRE, _set(stype="x" * 2**20)),
    "no shape": (Reason.WIRE, _set(shape=())),
    "a shape of many axes": (Reason.WIRE, _set(shape=(1,) * 10_000)),
    "an npy header of terabytes": (
        Reason.WIRE,
        _set(stype="numpy.ndarray", data=wire._npy_header("<f4", (2**45,))),
    ),
    "a header of 2 GiB": (Reason.WIRE, _set(stype="numpy.ndarray", data=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{")),
    "a pickle": (Reason.WIRE, _set(stype="numpy.ndarray", data=b"\x80\x04N.")),
    "a subnormal float64 scale": (Reason.WIRE, _scale(5e-324)),
    "minus infinity": (Reason.WIRE, _scale(-math.inf)),
    "a scale just beyond float32": (Reason.WIRE, _scale(3.5e38)),
    "num-examples above 2**53": (Reason.METRICS, _metrics(num_examples=2**53 + 1)),
    "infinite num-examples": (Reason.METRICS, _metrics(num_examples=math.inf)),
    "a NaN among hundreds of metrics": (
        Reason.METRICS,
        _metrics(num_examples=3, **{f"m{i}": NAN if i == 250 else i for i in range(500)}),
    ),
}

HARMLESS: dict[str, Callable[[Message], Message]] = {
    "no num-examples": _metrics(loss=1.0),
    "a record name of a megabyte": _content(lambda r: RecordDict({**r.content, "x" * 2**20: ConfigRecord()})),
    "another round's group": _metadata(group_id="77"),
    "a NaN norm": _norm(NAN),
    "an infinite norm": _norm(math.inf),
    "a negative norm": _norm(-1.0),
    "a norm of no such update": _norm(1e9),
    "a norm in words": _norm("large"),
    "a list of norms": _norm([1.0, 2.0]),
    "no norm": _content(lambda r: RecordDict({k: v for k, v in r.content.items() if k != wire.NORM_RECORD})),
    "no metrics": _content(lambda r: RecordDict({"arrays": r.content["arrays"]})),
    "extra metrics": _metrics(num_examples=3, **{f"m{i}": i for i in range(500)}),
    "other metrics": _metrics(num_examples=3, train_loss=[1.0, 2.0]),
    "config records": _content(lambda r: RecordDict({**r.content, "c": ConfigRecord({"k": b"x" * 1000})})),
}
"""Unusual replies with an honest update: it counts, or the reply is rejected, but nothing else changes."""

NORMS = tuple(name for name in HARMLESS if "norm" in name)
"""Those that must be rejected where the strategy sorts by reported norms."""


def _alone(spoil: Callable[[Message], Message]) -> Callable[[Message], list[Message]]:
    return lambda reply: [spoil(reply)]


def kinds() -> dict[str, Callable[[Message], list[Message]]]:
    """Return every kind: what the server gets in place of an honest reply."""
    single = {**{name: spoil for name, (_, spoil) in HOSTILE.items()}, **HARMLESS}
    return {
        **{name: _alone(spoil) for name, spoil in single.items()},
        "two replies of one node": lambda reply: [reply, reply],
        "a hundred replies of one node": lambda reply: [reply] * 100,
    }
