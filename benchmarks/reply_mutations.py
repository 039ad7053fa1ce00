"""Ways to spoil a reply, from its metadata down to the bits of a payload; they compose, and a generator decides the rest.

They reach past Flower's type checks: what Flower's own deserialiser would refuse is a part of what is tried.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from benchmarks.payload_mutations import mutated
from flwr_robustcomp.flower import SERVER_NODE_ID

__all__ = ["MUTATIONS", "Surroundings", "spoil"]


@dataclass(frozen=True)
class Surroundings:
    """What an adversary may take from.

    Attributes
    ----------
    hostile : tuple of int
        The node ids of the adversary's own nodes: Flower signs a sender's id, so it cannot use those of the honest.
    donors : tuple of Array
        Arrays of other honest replies, of this compressor and of others.
    """

    hostile: tuple[int, ...]
    donors: tuple[Array, ...]


Mutation = Callable[[Message, np.random.Generator, Surroundings], None]

_NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 3, 2**31, 2**53, 2**53 + 1, 2**63, -(2**63), 10**400, True),
    *(0.0, -0.0, 0.5, 1e-300, 5e-324, 1e30, 3.5e38, 1e300, -1e300, math.nan, math.inf, -math.inf),
)
_OTHERS: tuple[Any, ...] = (
    *("", "large", "x" * 5000, b"", b"\x00\xff" * 700),
    *([], [1.0], [1, 2], [math.nan], ["a", b"b"], [0.5] * 3000),
)
_NAMES = (
    *("", "w", "b", "steps", "w.weight", "arrays", "metrics", "num-examples", "loss"),
    *("robustcomp.model", "robustcomp.norms", "\x00", "x" * 3000),
)
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "O", "", "<f4", "x" * 3000)
_STYPES = (
    "numpy.ndarray",
    "robustcomp/l1-sign/1",
    "robustcomp/top-k/2",
    "robustcomp/dense/1",
    "pickle",
    "",
    "/",
    "robustcomp/x/1",
)
_SHAPES: tuple[Any, ...] = ((), (0,), (1,), (24,), (5,), (6, 4), (29,), (2**45,), (-1,), (10**30,), (1,) * 300, (2**32, 2**32))


def spoil(reply: Message, plan: Sequence[tuple[str, int]], surroundings: Surroundings) -> list[Message]:
    """Return what the server gets in place of an honest reply: mutation after mutation of a private copy.

    Parameters
    ----------
    reply : Message
        Left as it is.
    plan : sequence of (str, int)
        Names of `MUTATIONS`, each with the seed of its choices.
    surroundings : Surroundings
        Of the round.

    Returns
    -------
    list of Message
        Usually one; several where the plan repeats the reply.
    """
    own = copy.deepcopy(reply)
    copies = 1
    for name, seed in plan:
        if name == "repeat":
            copies += 1 + seed % 3
            continue
        MUTATIONS[name](own, np.random.default_rng(seed), surroundings)
    return [own] * copies


def _pick(options: Sequence[Any], rng: np.random.Generator) -> Any:
    return options[int(rng.integers(len(options)))]


def _records(reply: Message) -> dict[str, Any]:
    content = reply.__dict__["_content"]
    return {} if content is None else content.__dict__["_data"]


def _of(reply: Message, kind: type, rng: np.random.Generator) -> dict[str, Any]:
    """Return the entries of one of the reply's records of a kind; an empty dict, of nobody, if it has none."""
    found = [record for record in _records(reply).values() if isinstance(record, kind)]
    return _pick(found, rng).__dict__["_data"] if found else {}


def _array(reply: Message, rng: np.random.Generator) -> Array:
    arrays = [array for array in _of(reply, ArrayRecord, rng).values() if isinstance(array, Array)]
    return _pick(arrays, rng) if arrays else Array("float32", (1,), "numpy.ndarray", b"")


def _drop_record(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    records = _records(reply)
    if records:
        del records[_pick(list(records), rng)]


def _rename_record(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    records = _records(reply)
    if records:
        records[_pick(_NAMES, rng)] = records.pop(_pick(list(records), rng))


def _add_record(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    records = _records(reply)
    kind = _pick((ArrayRecord, ConfigRecord, MetricRecord), rng)
    for number in range(_pick((1, 1, 1, 20), rng)):
        records[f"{_pick(_NAMES, rng)}{number or ''}"] = kind()


def _swap_records(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    records = _records(reply)
    if len(records) > 1:
        one, other = (list(records)[int(place)] for place in rng.permutation(len(records))[:2])
        records[one], records[other] = records[other], records[one]


def _drop_array(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    arrays = _of(reply, ArrayRecord, rng)
    if arrays:
        del arrays[_pick(list(arrays), rng)]


def _rename_array(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    arrays = _of(reply, ArrayRecord, rng)
    if arrays:
        arrays[_pick(_NAMES, rng)] = arrays.pop(_pick(list(arrays), rng))


def _add_array(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    arrays = _of(reply, ArrayRecord, rng)
    for number in range(_pick((1, 1, 1, 200), rng)):
        arrays[f"{_pick(_NAMES, rng)}{number or ''}"] = copy.copy(_pick(around.donors, rng))


def _replace_array(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    arrays = _of(reply, ArrayRecord, rng)
    if arrays:
        donor = _pick((*around.donors, None, 3, "array"), rng)
        arrays[_pick(list(arrays), rng)] = copy.copy(donor)


def _field(name: str, options: Sequence[Any]) -> Mutation:
    def change(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
        _array(reply, rng).__dict__[name] = _pick(options, rng)

    return change


def _bytes(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    array = _array(reply, rng)
    if isinstance(array.data, bytes):
        array.data = mutated(array.data, [donor.data for donor in around.donors], rng)


def _header(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    array = _array(reply, rng)
    if isinstance(array.data, bytes):
        numbers = [n for n in _NUMBERS if isinstance(n, float)]
        array.data = np.float64(_pick(numbers, rng)).tobytes() + array.data[8:]


def _metric(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    _of(reply, MetricRecord, rng)[_pick((*_NAMES, "num-examples", "loss"), rng)] = _pick((*_NUMBERS, *_OTHERS), rng)


def _drop_metric(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    metrics = _of(reply, MetricRecord, rng)
    if metrics:
        del metrics[_pick(list(metrics), rng)]


def _many_metrics(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    _of(reply, MetricRecord, rng).update({f"m{i}": i for i in range(_pick((50, 1100), rng))})


def _config(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    _of(reply, ConfigRecord, rng)[_pick((*_NAMES, "norm-2"), rng)] = _pick((*_NUMBERS, *_OTHERS), rng)


def _metadata(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    fields = reply.metadata.__dict__
    match int(rng.integers(6)):
        case 0:
            fields["_src_node_id"] = _pick((*around.hostile, SERVER_NODE_ID, 0, -7, 2**64, 10**5000, None, "node", 424242), rng)
        case 1:
            fields["_reply_to_message_id"] = _pick(("", "id", "another", "x" * 3000), rng)
        case 2:
            fields["_message_type"] = _pick(("train", "evaluate", "query", "", "x" * 3000), rng)
        case 3:
            fields["_group_id"] = _pick(("", "1", "77"), rng)
        case 4:
            fields["_run_id"] = _pick((0, 2**64), rng)
        case _:
            fields["_ttl"] = _pick((-1.0, 0.0, math.nan, math.inf), rng)


def _error(reply: Message, rng: np.random.Generator, around: Surroundings) -> None:
    """Make it an error reply, one with content too, or one with neither."""
    error = Error(_pick((0, 3, -1, 2**40), rng), _pick((None, "", "out of memory", "x" * 3000), rng))
    reply.__dict__["_error"] = _pick((error, error, None), rng)
    if rng.random() < 0.7:
        reply.__dict__["_content"] = _pick((None, RecordDict()), rng)


MUTATIONS: dict[str, Mutation] = {
    "drop record": _drop_record,
    "rename record": _rename_record,
    "add record": _add_record,
    "swap records": _swap_records,
    "drop array": _drop_array,
    "rename array": _rename_array,
    "add array": _add_array,
    "replace array": _replace_array,
    "dtype": _field("dtype", _DTYPES),
    "shape": _field("shape", _SHAPES),
    "stype": _field("stype", _STYPES),
    "no bytes": _field("data", (b"", None, "text", 7)),
    "bytes": _bytes,
    "header": _header,
    "metric": _metric,
    "drop metric": _drop_metric,
    "many metrics": _many_metrics,
    "config": _config,
    "metadata": _metadata,
    "error": _error,
}
"""By name; ``repeat``, which `spoil` knows, sends the reply more than once."""
