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
FORGED = "out of memory\x1b[2K\r\n\x1b[32mINFO\x1b[0m:      aggregate_train: kept 9\u202e\ud800"
"""What would read, on a terminal, as a line of ours."""


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


def _error(code: int, reason: Any) -> Callable[[Message], Message]:
    return lambda reply: Message(Error(code, reason), reply_to=_back(reply))


def _back(reply: Message) -> Message:
    """Return something whose reply seems to come from the same node."""
    return Message(RecordDict(), reply_to=reply)


def _metadata(**fields: Any) -> Callable[[Message], Message]:
    def change(reply: Message) -> Message:
        reply.metadata.__dict__.update({f"_{name}": value for name, value in fields.items()})
        return reply

    return change


def _field(**fields: Any) -> Callable[[Message], Message]:
    """Set fields of the message itself, past Flower's checks."""

    def change(reply: Message) -> Message:
        reply.__dict__.update(fields)
        return reply

    return change


class _Raising(Message):
    """A message of a Grid's own that cannot say whether it is an error."""

    def __init__(self, reply: Message) -> None:
        self.__dict__.update(reply.__dict__)

    def has_error(self) -> bool:
        raise RuntimeError(FORGED)


def _no_record(reply: Message) -> Message:
    reply.content.__dict__["_data"]["more"] = 3
    return reply


def _nothing(reply: Message) -> Any:
    return None


def _config(records: int, entries: int, value: Any) -> Callable[[Message], Message]:
    """Add config records, each with as many entries of a value."""
    more = {f"c{i}": ConfigRecord({f"k{k}": value for k in range(entries)}) for i in range(records)}
    return _content(lambda r: RecordDict({**r.content, **more}))


def _norm(value: Any) -> Callable[[Message], Message]:
    return _content(lambda r: RecordDict({**r.content, wire.NORM_RECORD: ConfigRecord({"norm-2": value})}))


HOSTILE: dict[str, tuple[Reason, Callable[[Message], Message]]] = {
    "error reply": (Reason.ERROR_REPLY, _error(3, "out of memory")),
    "a node that was not asked": (Reason.NOT_ASKED, _metadata(src_node_id=424242)),
    "no sender": (Reason.UNREADABLE, _metadata(src_node_id=None)),
    "a sender in words": (Reason.UNREADABLE, _metadata(src_node_id=FORGED)),
    "a sender of 5,000 digits": (Reason.UNREADABLE, _metadata(src_node_id=10**5000)),
    "no metadata": (Reason.UNREADABLE, _field(_metadata=None)),
    "no message": (Reason.UNREADABLE, _nothing),
    "a message that raises": (Reason.UNREADABLE, _Raising),
    "a type of message that is none": (Reason.UNREADABLE, _metadata(message_type=7)),
    "neither content nor error": (Reason.UNREADABLE, _field(_content=None)),
    "content that is text": (Reason.UNREADABLE, _field(_content=FORGED)),
    "a record that is a number": (Reason.UNREADABLE, _no_record),
    "a reply to another message": (Reason.NOT_ASKED, _metadata(reply_to_message_id="another")),
    "a reply of another type": (Reason.NOT_ASKED, _metadata(message_type="evaluate")),
    "hundreds of config records": (Reason.RECORDS, _config(300, 1, 1)),
    "hundreds of config records of 64 kilobytes": (Reason.RECORDS, _config(300, 1, b"x" * 2**16)),
    "two megabytes in a config record": (Reason.SIZE, _config(1, 1, b"x" * 2**21)),
    "fifty thousand config entries": (Reason.SIZE, _config(1, 50_000, 1)),
    "a dozen config records of 100 kilobytes": (Reason.SIZE, _config(12, 1, b"x" * 100_000)),
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
    "a name of a megabyte": (Reason.SIZE, _content(lambda r: _arrays(r, {"x" * 2**20: _array(r)}))),
    "a name of half a megabyte": (Reason.ARRAYS, _content(lambda r: _arrays(r, {"x" * 2**19: _array(r)}))),
    "a name with escape codes": (Reason.ARRAYS, _content(lambda r: _arrays(r, {FORGED: _array(r)}))),
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
    "a megabyte of garbage": (Reason.SIZE, _set(data=bytes(range(256)) * 4096)),
    "half a megabyte of garbage": (Reason.WIRE, _set(data=bytes(range(256)) * 2048)),
    "padding bits": (Reason.WIRE, _set(data=lambda a: a.data[:-1] + b"\xff")),
    "NaN scale": (Reason.WIRE, _scale(NAN)),
    "infinite scale": (Reason.WIRE, _scale(math.inf)),
    "minus infinite scale": (Reason.WIRE, _scale(-math.inf)),
    "subnormal scale": (Reason.WIRE, _scale(5e-324)),
    "negative scale": (Reason.WIRE, _scale(-1.0)),
    "negative zero scale": (Reason.WIRE, _scale(-0.0)),
    "a scale beyond float32": (Reason.WIRE, _scale(1e300)),
    "a scale between two float32": (Reason.WIRE, _scale(0.1)),
    "thousands of metrics": (Reason.METRICS, _metrics(num_examples=3, **{f"m{i}": i for i in range(5000)})),
    "a list of a million": (Reason.SIZE, _metrics(num_examples=3, losses=[0.5] * 10**6)),
    "a list of a hundred thousand": (Reason.METRICS, _metrics(num_examples=3, losses=[0.5] * 10**5)),
    "a metric's name of a megabyte": (Reason.SIZE, _metrics(**{"num-examples": 3, "x" * 2**20: 1})),
    "a metric's name of a thousand characters": (Reason.METRICS, _metrics(**{"num-examples": 3, "x" * 1000: 1})),
    "a metric's name with escape codes": (Reason.METRICS, _metrics(**{"num-examples": 3, FORGED: 1})),
    "a metric under our own name": (Reason.METRICS, _metrics(**{"num-examples": 3, "robustcomp.kept": 0})),
    "a count under our own name": (Reason.METRICS, _metrics(**{"num-examples": 3, "robustcomp.told.loss": 9})),
    "an error with escape codes": (Reason.ERROR_REPLY, _error(3, FORGED)),
    "an error whose reason is a number": (Reason.ERROR_REPLY, _error(3, 7)),
    "an error code of 5,000 digits": (Reason.ERROR_REPLY, _error(10**5000, None)),
    "an error that is none": (Reason.ERROR_REPLY, _field(_error="out of memory", _content=None)),
    "an error of a megabyte": (Reason.ERROR_REPLY, _error(3, "x" * 2**20)),
    "renamed array record": (Reason.RECORDS, _content(lambda r: RecordDict({"arrays": MetricRecord({"num-examples": 3})}))),
    "hundreds of array records": (
        Reason.RECORDS,
        _content(lambda r: RecordDict({f"a{i}": ArrayRecord({_name(r): _array(r)}) for i in range(300)})),
    ),
    "hundreds of arrays": (Reason.ARRAYS, _content(lambda r: _arrays(r, {f"a{i}": _array(r) for i in range(300)}))),
    "a dtype that is none": (Reason.WIRE, _set(dtype="O")),
    "a stype of a megabyte": (Reason.SIZE, _set(stype="x" * 2**20)),
    "a stype with escape codes": (Reason.WIRE, _set(stype=FORGED)),
    "no shape": (Reason.WIRE, _set(shape=())),
    "a shape of many axes": (Reason.WIRE, _set(shape=(1,) * 10_000)),
    "an npy header of terabytes": (
        Reason.WIRE,
        _set(stype="numpy.ndarray", data=wire.dense._npy_header("<f4", (2**45,))),
    ),
    "a header of 2 GiB": (Reason.WIRE, _set(stype="numpy.ndarray", data=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{")),
    "a pickle": (Reason.WIRE, _set(stype="numpy.ndarray", data=b"\x80\x04N.")),
    "a subnormal float64 scale": (Reason.WIRE, _scale(5e-324)),
    "minus infinity": (Reason.WIRE, _scale(-math.inf)),
    "a scale just beyond float32": (Reason.WIRE, _scale(3.5e38)),
}

HARMLESS: dict[str, Callable[[Message], Message]] = {
    "no num-examples": _metrics(loss=1.0),
    "a record name of half a megabyte": _content(lambda r: RecordDict({**r.content, "x" * 2**19: ConfigRecord()})),
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
    "config records": _config(2, 1, b"x" * 1000),
    "no receiver": _metadata(dst_node_id=None),
    "the largest metrics": _metrics(num_examples=3, loss=1e308, f1=-1e308),
    "NaN metric": _metrics(num_examples=3, loss=NAN),
    "infinite metric in a list": _metrics(num_examples=3, losses=[0.5, math.inf]),
    "negative num-examples": _metrics(num_examples=-5),
    "zero num-examples": _metrics(num_examples=0),
    "huge num-examples": _metrics(num_examples=10**300),
    "more num-examples than a float counts": _metrics(num_examples=2**53 + 1),
    "num-examples too long to write": _metrics(num_examples=10**5000),
    "NaN num-examples": _metrics(num_examples=NAN),
    "list of num-examples": _metrics(num_examples=[3, 3]),
    "num-examples above 2**53": _metrics(num_examples=2**53 + 1),
    "infinite num-examples": _metrics(num_examples=math.inf),
    "a NaN among hundreds of metrics": _metrics(num_examples=3, **{f"m{i}": NAN if i == 250 else i for i in range(500)}),
}
"""Unusual replies with an honest update: it counts, or the reply is rejected, but nothing else changes."""

NORMS = tuple(name for name in HARMLESS if "norm" in name)
"""Those that must be rejected where the strategy sorts by reported norms."""


VECTORS: dict[str, Callable[[Message], Message]] = {
    "a scale of 1e30": _scale(float(np.float32(1e30))),
    "the largest scale": _scale(float(np.finfo(np.float32).max)),
    "the smallest normal scale": _scale(float(np.finfo(np.float32).tiny)),
    "the smallest scale": _scale(float(np.finfo(np.float32).smallest_subnormal)),
}
"""Updates of any size that an honest compressor could have sent: accepted, they may move the model, but not far."""


def _alone(spoil: Callable[[Message], Message]) -> Callable[[Message], list[Message]]:
    return lambda reply: [spoil(reply)]


def kinds() -> dict[str, Callable[[Message], list[Message]]]:
    """Return every kind: what the server gets in place of an honest reply."""
    single = {**{name: spoil for name, (_, spoil) in HOSTILE.items()}, **HARMLESS, **VECTORS}
    return {
        **{name: _alone(spoil) for name, spoil in single.items()},
        "two replies of one node": lambda reply: [reply, reply],
        "a hundred replies of one node": lambda reply: [reply] * 100,
    }
