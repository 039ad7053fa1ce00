"""Odd metrics and odd numbers: neither training nor evaluation rounds end on them, under any strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import L1Sign, Sign, vector_norm
from flwr_robustcomp.spans import DELTA_METRIC
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Reason, SignMajorityVote
from flwr_robustcomp.strategies.metrics import alike_contents
from tests.strategies.rounds import SAMPLING, answer, ask, updates

HUGE = 10**400
STRATEGIES: dict[str, Callable[[], Any]] = {
    "norm-threshold": lambda: NormThreshold(compressor=L1Sign(), **SAMPLING),
    "majority-vote": lambda: SignMajorityVote(**SAMPLING),
    "decompressed": lambda: Decompressed(FedAvg(**SAMPLING), compressor=L1Sign()),  # type: ignore[arg-type]
}

Metrics = dict[str, Any]
HONEST: list[Metrics] = [{"num-examples": 1, "loss": 1.0}, {"num-examples": 1, "loss": 2.0}, {"num-examples": 2, "loss": 3.0}]
LOSS = 2.0  # the median: claimed examples do not weigh


def _told(request: Message, metrics: Metrics, record: str = "metrics") -> Message:
    return Message(RecordDict({record: MetricRecord(metrics)}), reply_to=request)


ODD: dict[str, Callable[[Message, Message], list[Message]]] = {
    "nothing": lambda mine, other: [],
    "an error": lambda mine, other: [Message(Error(3, "out of memory"), reply_to=mine)],
    "an error without a reason": lambda mine, other: [Message(Error(3), reply_to=mine)],
    "no metrics": lambda mine, other: [Message(RecordDict({"c": ConfigRecord()}), reply_to=mine)],
    "two records": lambda mine, other: [
        Message(RecordDict({n: MetricRecord({"num-examples": 1, "loss": 9.0}) for n in "ab"}), reply_to=mine)
    ],
    "no loss": lambda mine, other: [_told(mine, {"num-examples": 1})],
    "no examples": lambda mine, other: [_told(mine, {"loss": 9.0})],
    "a list of losses": lambda mine, other: [_told(mine, {"num-examples": 1, "loss": [9.0, 9.0]})],
    "a NaN loss": lambda mine, other: [_told(mine, {"num-examples": 1, "loss": math.nan})],
    "a loss beyond floats": lambda mine, other: [_told(mine, {"num-examples": 1, "loss": HUGE})],
    "examples beyond floats": lambda mine, other: [_told(mine, {"num-examples": HUGE, "loss": 9.0})],
    "negative examples": lambda mine, other: [_told(mine, {"num-examples": -1, "loss": 9.0})],
    "two replies": lambda mine, other: [_told(mine, {"num-examples": 1, "loss": 9.0})] * 2,
    "a good reply and a bad one": lambda mine, other: [
        _told(mine, {"num-examples": 1, "loss": 9.0}),
        _told(mine, {"num-examples": math.nan, "loss": 9.0}),
    ],
}
HARMLESS: dict[str, Callable[[Message], Message]] = {
    "one more metric": lambda mine: _told(mine, {"num-examples": 4, "loss": LOSS, "more": 5.0}),
    "another name of the record": lambda mine: _told(mine, {"num-examples": 4, "loss": LOSS}, "renamed"),
    "another record": lambda mine: Message(
        RecordDict({"m": MetricRecord({"num-examples": 4, "loss": LOSS}), "c": ConfigRecord({"k": 1})}), reply_to=mine
    ),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_odd_evaluation_reply_does_not_count(name: str, odd: str) -> None:
    strategy = STRATEGIES[name]()
    requests = ask(strategy, 4)
    honest = [_told(request, told) for request, told in zip(requests, HONEST, strict=False)]
    replies = ODD[odd](requests[3], requests[0])
    metrics = strategy.aggregate_evaluate(1, [*honest, *replies])
    assert metrics["loss"] == LOSS and metrics["robustcomp.evaluated"] + metrics["robustcomp.evaluations-rejected"] == 3 + bool(
        replies
    )


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_unusual_evaluation_reply_counts(name: str, case: str) -> None:
    strategy = STRATEGIES[name]()
    requests = ask(strategy, 4)
    honest = [_told(request, told) for request, told in zip(requests, HONEST, strict=False)]
    metrics = strategy.aggregate_evaluate(1, [HARMLESS[case](requests[3]), *honest])
    assert dict(metrics) == {"loss": LOSS, "robustcomp.evaluated": 4, "robustcomp.evaluations-rejected": 0}


@pytest.mark.parametrize("name", STRATEGIES)
def test_numbers_beyond_floats_cost_the_training_reply(name: str) -> None:
    strategy = STRATEGIES[name]()
    compressor, requests = strategy.receiver.compressor, ask(strategy, 3)
    told: list[Metrics] = [{"num-examples": 1}, {"num-examples": HUGE}, {"num-examples": 1, "loss": [1, -HUGE]}]
    replies = [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(3), told, strict=True)]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert [(r.node_id, r.reason) for r in strategy.reports[-1].rejected] == [(1001, Reason.METRICS), (1002, Reason.METRICS)]


@pytest.mark.parametrize(
    "norm",
    [HUGE, -HUGE, 10**5000, True, "1.0", b"1", [1.0], 2**63],
    ids=lambda norm: f"{norm:.3g}" if isinstance(norm, float) else type(norm).__name__,
)
@pytest.mark.parametrize("compressor", [L1Sign(), Sign()], ids=repr)
def test_reported_norms_of_other_types_are_not_believed(compressor: L1Sign | Sign, norm: Any) -> None:
    strategy = NormThreshold(compressor=compressor, norm="reported", **SAMPLING)
    honest, liar = ask(strategy, 2)
    x, y = updates(2)
    replies = [answer(honest, x, compressor, norms={"norm-2": vector_norm(x, 2)}), answer(liar, y, compressor)]
    replies[1].content[wire.NORM_RECORD] = ConfigRecord({"norm-2": norm})
    strategy.aggregate_train(1, replies)
    believed = isinstance(compressor, Sign) and norm == 2**63  # a bare sign bounds no norm from above: it is trimmed for it
    assert [r.reason for r in strategy.reports[-1].rejected] == ([] if believed else [Reason.NORM])


def test_metrics_are_agreed_by_a_majority() -> None:
    told: list[Metrics] = [{"n": 1, "a": 1.0}, {"n": 9, "a": 2.0, "b": 5.0}, {"n": 1, "b": 6.0}]
    first, second, third = alike_contents(told, [0.2, 0.3, 0.5], "n")
    assert (first, third) == (None, None) and second is not None
    assert dict(second["metrics"]) == {"n": 0.3, "a": 2.0, "b": 5.0}
    assert alike_contents(told[:1] + told[2:], [1, 1], "n") == [None, None]
    assert alike_contents([], [], "n") == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_median_of_the_told_deltas_is_reported(name: str) -> None:
    strategy = STRATEGIES[name]()
    compressor, requests = strategy.receiver.compressor, ask(strategy, 7)
    told: list[Metrics] = [{"num-examples": 1, "loss": 1.0, DELTA_METRIC: d} for d in (0.5, 0.7, 0.6, 1e308, -1e308)]
    told += [{"num-examples": 1, "loss": 1.0}, {"num-examples": 1, "loss": 1.0, DELTA_METRIC: [0.9, 0.9]}]  # not asked, and odd
    replies = [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(7), told, strict=True)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].delta == metrics[DELTA_METRIC] == 0.6
    assert strategy.reports[-1].rejected == () and len(strategy.reports[-1].kept) == 7
    assert metrics["loss"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_delta_is_reported_where_none_was_told(name: str) -> None:
    strategy = STRATEGIES[name]()
    replies = [answer(r, x, strategy.receiver.compressor) for r, x in zip(ask(strategy, 3), updates(3), strict=True)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].delta is None and DELTA_METRIC not in metrics


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_delta_that_is_not_finite_costs_the_reply(name: str) -> None:
    strategy = STRATEGIES[name]()
    told: list[Metrics] = [{"num-examples": 1, DELTA_METRIC: d} for d in (0.5, math.nan)]
    compressor, requests = strategy.receiver.compressor, ask(strategy, 2)
    strategy.aggregate_train(
        1, [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(2), told, strict=True)]
    )
    assert [(r.node_id, r.reason) for r in strategy.reports[-1].rejected] == [(1001, Reason.METRICS)]
    assert strategy.reports[-1].delta == 0.5
