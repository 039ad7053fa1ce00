"""What the operator sees of an evaluation is decided by the majority."""

from __future__ import annotations

import math
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import to_arrays
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Decompressed, NormThreshold
from flwr_robustcomp.strategies.replies.metrics import filled_contents, median_metrics
from tests.strategies.rounds import MODEL, answer, ask, updates

NODES: dict[str, Any] = {"min_train_nodes": 5, "min_available_nodes": 5, "min_evaluate_nodes": 5}


def _strategy(kind: str, **options: Any) -> Any:
    if kind == "norm-threshold":
        return NormThreshold(compressor=L1Sign(), **NODES, **options)
    return Decompressed(FedAvg(**NODES, **options), compressor=L1Sign())


def _requests(strategy: Any) -> list[Message]:
    arrays: ArrayRecord = to_arrays(MODEL)
    asked = strategy.configure_evaluate(1, arrays, ConfigRecord(), InProcessGrid(ClientApp(), 5))
    return sorted(asked, key=lambda message: message.metadata.dst_node_id)


def _reply(request: Message, **metrics: Any) -> Message:
    return Message(RecordDict({"m": MetricRecord({"num-examples": 1, **metrics})}), reply_to=request)


@pytest.mark.parametrize("lie", [1e300, -1e300, 0.0])
@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_two_of_five_do_not_decide_what_the_operator_sees(kind: str, lie: float) -> None:
    strategy = _strategy(kind)
    requests = _requests(strategy)
    replies = [_reply(request, loss=loss) for request, loss in zip(requests, (1.0, 1.25, 1.5), strict=False)]
    liars = [_reply(request, **{"loss": lie, "num-examples": 2**53}) for request in requests[3:]]
    metrics = strategy.aggregate_evaluate(1, replies + liars)
    assert 1.0 <= metrics["loss"] <= 1.5 and metrics["robustcomp.evaluated"] == 5


@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_nodes_that_were_not_asked_are_not_heard(kind: str) -> None:
    strategy = _strategy(kind)
    requests = _requests(strategy)
    replies = [_reply(request, loss=1.0) for request in requests]
    replies[4].metadata.__dict__["_src_node_id"] = 424242
    metrics = strategy.aggregate_evaluate(1, replies)
    assert (metrics["robustcomp.evaluated"], metrics["robustcomp.evaluations-rejected"]) == (4, 1)


@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_a_round_in_which_all_are_rejected_says_so(kind: str) -> None:
    strategy = _strategy(kind)
    metrics = strategy.aggregate_evaluate(1, [_reply(request, **{"\n": 1.0}) for request in _requests(strategy)])
    sent = {"robustcomp.evaluation-bytes-sent": metrics["robustcomp.evaluation-bytes-sent"]}
    assert dict(metrics) == {"robustcomp.evaluated": 0, "robustcomp.evaluations-rejected": 5, **sent}


@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_a_metric_that_is_not_finite_costs_that_metric(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = _strategy(kind)
    aucs = (math.nan, math.inf, 0.5, 0.75, 1.0)
    replies = [_reply(request, loss=1.0, auc=auc) for request, auc in zip(_requests(strategy), aucs, strict=True)]
    with caplog.at_level("WARNING", logger="flwr"):
        metrics = strategy.aggregate_evaluate(1, replies)
    assert metrics["robustcomp.evaluated"] == 5 and metrics["robustcomp.evaluation-metrics-dropped"] == 2
    assert (metrics["loss"], metrics["robustcomp.told.loss"]) == (1.0, 5)
    assert (metrics["auc"], metrics["robustcomp.told.auc"]) == (0.75, 3)
    assert caplog.text.count("metrics dropped") == 1 and "auc (of 2 replies)" in caplog.text


def test_a_function_of_the_users_own_gets_no_reply_without_a_weight() -> None:
    seen: list[int] = []

    def own(contents: list[RecordDict], key: str) -> MetricRecord:
        seen.extend(int(float(str(content["metrics"][key]))) for content in contents)
        return MetricRecord()

    strategy = _strategy("norm-threshold", evaluate_metrics_aggr_fn=own)
    counts = (1, 2, 3, math.nan, -1)
    told = [_reply(r, loss=1.0, **{"num-examples": n}) for r, n in zip(_requests(strategy), counts, strict=True)]
    metrics = strategy.aggregate_evaluate(1, told)
    assert seen == [1, 2, 3] and metrics["robustcomp.evaluations-rejected"] == 2


@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_a_function_of_the_users_own_has_the_last_word(kind: str) -> None:
    strategy = _strategy(kind, evaluate_metrics_aggr_fn=lambda contents, key: MetricRecord({"seen": len(contents)}))
    metrics = strategy.aggregate_evaluate(1, [_reply(request, loss=1.0) for request in _requests(strategy)])
    assert metrics["seen"] == 5 and "loss" not in metrics


def test_the_mean_of_two_large_middle_values_does_not_overflow() -> None:
    contents = [RecordDict({"m": MetricRecord({"n": 1, "loss": value})}) for value in (1.5e308, 1.75e308)]
    assert median_metrics(contents, "n")["loss"] == 1.625e308


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(honest=st.lists(FINITE, min_size=1, max_size=9), lies=st.lists(FINITE, max_size=8))
def test_the_median_lies_within_the_honest_range(honest: list[float], lies: list[float]) -> None:
    lies = lies[: len(honest) - 1]
    contents = [RecordDict({"m": MetricRecord({"n": 1, "loss": v, "each": [v, -v]})}) for v in honest + lies]
    result: dict[str, Any] = dict(median_metrics(contents, "n"))
    assert min(honest) <= result["loss"] <= max(honest)
    assert result["each"] == [result["loss"], -result["loss"]]
    assert "n" not in result and not median_metrics([], "n")


def test_who_lacks_an_agreed_metric_gets_the_median() -> None:
    told: list[Any] = [{"n": 1, "a": 1.0, "b": [1, 2]}, {"n": 2, "a": 3.0, "b": [3, 0]}, {"n": 3, "c": 9.0}]
    contents = filled_contents(told, [1, 2, 3], "n")
    assert dict(contents[2]["metrics"]) == {"n": 3, "a": 1.0, "b": [1, 0]}
    assert dict(contents[1]["metrics"]) == {"n": 2, "a": 3.0, "b": [3, 0]}
    assert [dict(one["metrics"]) for one in filled_contents([{"n": 1}, {"n": 2, "a": 1}], [1, 2], "n")] == [{"n": 1}, {"n": 2}]


def test_one_client_cannot_hide_the_training_metrics_of_an_inner_strategy() -> None:
    strategy = Decompressed(FedAvg(**NODES), compressor=L1Sign())
    told: list[Any] = [{"num-examples": 1, "loss": 2.0}] * 4 + [{"num-examples": 1}]
    requests = ask(strategy, 5)
    _, metrics = strategy.aggregate_train(
        1, [answer(r, x, L1Sign(), metrics=t) for r, x, t in zip(requests, updates(5), told, strict=True)]
    )
    assert metrics is not None and metrics["loss"] == pytest.approx(2.0)
