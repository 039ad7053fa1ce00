"""Nothing that a Grid hands over raises, or writes on a terminal; of what is too large only so much is looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hostile_replies import HOSTILE
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Reason, Rejection
from flwr_robustcomp.strategies.replies.common import by_node
from flwr_robustcomp.strategies.replies.reply_size import EVALUATION, Limits, size_of
from flwr_robustcomp.strategies.report import STRANGERS
from tests.strategies.rounds import SAMPLING, answers, ask, moved, updates

XS = updates(9)
STRATEGIES: dict[str, Callable[[], Any]] = {
    "norm-threshold": lambda: NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING),
    "decompressed": lambda: Decompressed(FedAvg(**SAMPLING), compressor=L1Sign()),
}
UNREADABLE = [name for name, (reason, _) in HOSTILE.items() if reason == Reason.UNREADABLE]
NO_SENDER = ["no sender", "a sender in words", "a sender of 5,000 digits", "no metadata", "no message"]


# -- a net that holds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NO_SENDER)
@pytest.mark.parametrize("name", STRATEGIES)
def test_what_has_no_sender_counts_as_the_strangers(name: str, kind: str) -> None:
    strategy = STRATEGIES[name]()
    replies = answers(strategy, XS, L1Sign())
    moved(strategy, [*replies[:8], HOSTILE[kind][1](replies[8])])
    (rejection,) = strategy.reports[-1].rejected
    assert (rejection.node_id, rejection.reason) == (STRANGERS, Reason.UNREADABLE)
    assert strategy.ledger.standings[STRANGERS].rejections == {Reason.UNREADABLE: 1}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", STRATEGIES)
def test_no_kind_ends_an_evaluation(name: str, kind: str) -> None:
    """The kinds whose metrics are honest are accepted: an evaluation reads nothing else."""
    strategy = STRATEGIES[name]()
    replies = answers(strategy, XS, L1Sign(), metrics={"num-examples": 3, "loss": 2.0})
    metrics = strategy.aggregate_evaluate(1, [*replies[:8], HOSTILE[kind][1](replies[8])])
    assert metrics["loss"] == 2.0 and metrics["robustcomp.evaluated"] + metrics["robustcomp.evaluations-rejected"] == 9
    if kind in NO_SENDER:
        assert metrics["robustcomp.evaluations-rejected"] == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_replies_that_break_off_count_as_far_as_they_came(name: str) -> None:
    strategy = STRATEGIES[name]()
    replies = answers(strategy, XS, L1Sign(), metrics={"num-examples": 3, "loss": 2.0})

    def some() -> Iterator[Message]:
        yield from replies[:5]
        raise ConnectionError("the Grid is gone")

    arrays, _ = strategy.aggregate_train(1, some())
    (rejection,) = strategy.reports[-1].rejected
    assert arrays is not None and len({*strategy.reports[-1].kept, *strategy.reports[-1].trimmed}) == 5
    assert rejection == Rejection(STRANGERS, Reason.UNREADABLE, "ConnectionError: the Grid is gone")
    assert strategy.aggregate_evaluate(1, some())["robustcomp.evaluated"] == 5


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_interrupt_is_not_a_reply(name: str) -> None:
    strategy = STRATEGIES[name]()
    ask(strategy, 3)

    def interrupted() -> Iterator[Message]:
        raise KeyboardInterrupt
        yield

    for aggregate in (strategy.aggregate_train, strategy.aggregate_evaluate):
        with pytest.raises(KeyboardInterrupt):
            aggregate(1, interrupted())


class _Odd:
    """Not a message; whatever is asked of it is one of these too, or raises."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getattr__(self, name: str) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def __str__(self) -> str:
        raise RuntimeError("no words")


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ODD = st.one_of(
    *(st.none(), st.integers(), st.text(), st.binary(), st.floats(), st.booleans()),
    st.just(10**5000),
    st.just([]),
    st.sampled_from([_Mute(), RuntimeError("\x1b[2K"), KeyError("x" * 10**6)]).map(_Odd),
).flatmap(lambda value: st.sampled_from([value, _Odd(value), _Odd(_Odd(value)), _Odd(_Odd(_Odd(value)))]))


@given(st.lists(ODD, max_size=5))
def test_grouping_takes_anything(messages: list[Any]) -> None:
    groups, lost = by_node(messages, {})
    assert sum(len(found) for _, found in groups) + len(lost) == len(messages)
    assert all(-(2**63) <= node < 2**64 for node, _ in groups)
    strategy = STRATEGIES["norm-threshold"]()
    ask(strategy, 3)
    _, metrics = strategy.aggregate_train(1, messages)
    assert len(strategy.reports[-1].rejected) >= len(lost)
    assert metrics.deflate()  # it can be sent and kept


# -- what is written ------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(Reason))
def test_a_rejections_detail_is_one_short_printable_line(detail: str, reason: Reason) -> None:
    shown = Rejection(1, reason, detail * 20).detail
    assert len(shown) <= 500 and len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert shown == Rejection(2, reason, shown).detail


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", STRATEGIES)
def test_no_reply_writes_on_the_terminal(name: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = STRATEGIES[name]()
    replies = answers(strategy, XS, L1Sign(), metrics={"num-examples": 3, "loss": 2.0})
    caplog.clear()
    with caplog.at_level("DEBUG", logger="flwr"):
        spoilt = HOSTILE[kind][1](replies[8])
        _, metrics = strategy.aggregate_train(1, [*replies[:8], spoilt])
        told = strategy.aggregate_evaluate(1, [*replies[:8], spoilt])
    lines = [line for record in caplog.records for line in record.getMessage().strip("\t").splitlines()]
    assert lines and all(line.isprintable() for line in lines)
    assert not any(record.exc_info for record in caplog.records), "an exception's own lines can quote a reply"
    assert not any(line.lstrip().startswith(("INFO", "aggregate_train: kept 9")) for line in lines)
    assert all(name.isprintable() for name in (*metrics, *told))


# -- size -----------------------------------------------------------------------------------------------------------------


class _Counting(dict[str, Any]):
    """The entries of a record, which notes how many of them were looked at."""

    seen = 0

    def items(self) -> Any:
        for pair in super().items():
            self.seen += 1
            yield pair

    def _looked_at(self) -> Any:
        raise AssertionError("nothing but the size is looked at")

    __iter__ = keys = values = _looked_at


def _counting(record: ArrayRecord | ConfigRecord | MetricRecord, entries: dict[str, Any]) -> _Counting:
    found = _Counting(entries)
    record.__dict__["_data"] = found
    return found


@pytest.mark.parametrize("make", [ConfigRecord, MetricRecord, ArrayRecord])
@pytest.mark.parametrize("name", STRATEGIES)
def test_of_a_million_entries_a_small_part_is_looked_at(name: str, make: Any) -> None:
    strategy = STRATEGIES[name]()
    replies = answers(strategy, XS, L1Sign(), metrics={"num-examples": 3, "loss": 2.0})
    array = Array("float32", (0,), "numpy.ndarray", b"")
    record = make()
    entries = _counting(record, dict.fromkeys(map(str, range(10**6)), array if make is ArrayRecord else 1))
    content = RecordDict({"more": record, **replies[8].content})
    replies[8].content = content
    strategy.aggregate_train(1, replies)
    assert [one.reason for one in strategy.reports[-1].rejected] == [Reason.SIZE]
    assert strategy.aggregate_evaluate(1, replies)["robustcomp.evaluations-rejected"] == 1
    assert entries.seen < 2 * 2**20 / 64


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({f"m{i}": ConfigRecord() for i in range(16)}, "at most 16 records"),
        ({"c": ConfigRecord({"k": b"x" * 2**20})}, "at most 1048576 bytes"),
        ({"c": ConfigRecord({"k": "x" * 2**20})}, "at most 1048576 bytes"),
        ({"c": ConfigRecord({"k": [0.5] * 2**17})}, "at most 1048576 bytes"),
        ({"c": ConfigRecord({"k": ["x" * 2**12] * 2**9})}, "at most 1048576 bytes"),
        ({"c": ConfigRecord({"k": 1 << 2**24})}, "at most 1048576 bytes"),
        ({"c": ConfigRecord({f"k{i}": 1 for i in range(2**14)})}, "at most 1048576 bytes"),
        ({"x" * 2**20: ConfigRecord()}, "at most 1048576 bytes"),
        ({"a": ArrayRecord({"a": Array("uint8", (2**20,), "numpy.ndarray", bytes(2**20))})}, "at most 1048576 bytes"),
    ],
)
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_evaluation_reply_has_limits(name: str, more: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = STRATEGIES[name]()
    honest = [
        Message(RecordDict({"m": MetricRecord({"num-examples": 1, "loss": 1.0})}), reply_to=request)
        for request in ask(strategy, 3)
    ]
    honest[2].content.update(more)
    with caplog.at_level("WARNING", logger="flwr"):
        metrics = strategy.aggregate_evaluate(1, honest)
    assert (metrics["robustcomp.evaluated"], metrics["robustcomp.evaluations-rejected"]) == (2, 1)
    assert reason in caplog.text


def test_an_evaluation_reply_has_room_for_what_metrics_may_be() -> None:
    strategy = STRATEGIES["norm-threshold"]()
    told: Any = {"num-examples": 1, **{f"{i:0256d}": i for i in range(1000)}, "list": [0.5] * 65536}
    replies = [Message(RecordDict({"m": MetricRecord(told)}), reply_to=request) for request in ask(strategy, 3)]
    assert strategy.aggregate_evaluate(1, replies)["robustcomp.evaluated"] == 3


@given(st.integers(0, 2**21), st.integers(0, 3), st.integers(0, 100))
def test_what_is_within_the_limits_is_counted_in_full(length: int, arrays: int, entries: int) -> None:
    array = Array("uint8", (length,), "numpy.ndarray", bytes(length))
    records: Any = {"a": ArrayRecord({str(i): array for i in range(arrays)})}
    records["c"] = ConfigRecord({str(i): 1.0 for i in range(entries)})
    message = Message(RecordDict(records), reply_to=ask(STRATEGIES["norm-threshold"](), 3)[0])
    size = size_of(message, Limits(2**30, 2**20))
    assert size.records == 2 and size.arrays == arrays * length and size.besides >= 72 * entries
    assert size_of(message, EVALUATION).within(EVALUATION) == (size.arrays + size.besides <= EVALUATION.total)
