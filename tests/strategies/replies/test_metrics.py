"""Odd metrics and odd numbers: neither training nor evaluation rounds end on them, under any strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import L1Sign, Sign, vector_norm
from flwr_robustcomp.spans import DELTA_METRIC
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Reason, SignMajorityVote
from flwr_robustcomp.strategies.replies.common import Rejected, counted_drops, read_metrics
from flwr_robustcomp.strategies.replies.metrics import filled_contents, medians
from flwr_robustcomp.strategies.report import drops_in_words
from tests.strategies.rounds import SAMPLING, answer, ask, updates

HUGE = 10**400
STRATEGIES: dict[str, Callable[[], Any]] = {
    "norm-threshold": lambda: NormThreshold(compressor=L1Sign(), **SAMPLING),
    "majority-vote": lambda: SignMajorityVote(**SAMPLING),
    "decompressed": lambda: Decompressed(FedAvg(**SAMPLING), compressor=L1Sign()),
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
UNWEIGHTED = {"no examples", "examples beyond floats", "negative examples"}
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
    assert metrics["loss"] == (2.5 if odd in UNWEIGHTED else LOSS)  # a median asks nobody for examples
    assert metrics["robustcomp.evaluated"] + metrics["robustcomp.evaluations-rejected"] == 3 + bool(replies)


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_an_unusual_evaluation_reply_counts(name: str, case: str) -> None:
    strategy = STRATEGIES[name]()
    requests = ask(strategy, 4)
    honest = [_told(request, told) for request, told in zip(requests, HONEST, strict=False)]
    metrics = strategy.aggregate_evaluate(1, [HARMLESS[case](requests[3]), *honest])
    assert dict(metrics) == {
        "loss": LOSS,
        "robustcomp.told.loss": 4,
        "robustcomp.evaluated": 4,
        "robustcomp.evaluations-rejected": 0,
        "robustcomp.evaluation-bytes-sent": metrics["robustcomp.evaluation-bytes-sent"],
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_numbers_beyond_floats_cost_the_metric(name: str) -> None:
    strategy = STRATEGIES[name]()
    compressor, requests = strategy.packing.compressor, ask(strategy, 3)
    told: list[Metrics] = [{"num-examples": 1}, {"num-examples": HUGE}, {"num-examples": 1, "loss": [1, -HUGE]}]
    replies = [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(3), told, strict=True)]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    weighted = name == "decompressed"  # FedAvg weights by the count, and no update can go without it
    assert [(r.node_id, r.reason) for r in strategy.reports[-1].rejected] == ([(1001, Reason.METRICS)] if weighted else [])
    assert strategy.reports[-1].dropped_metrics == ({"loss": 1} if weighted else {"loss": 1, "num-examples": 1})


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
    assert dict(medians(told, "n")) == {"a": 1.5, "robustcomp.told.a": 2, "b": 5.5, "robustcomp.told.b": 2}
    assert not medians(told[:1] + told[2:], "n") and not medians([], "n")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
EXTRAS = st.dictionaries(st.sampled_from("abcd"), st.one_of(NUMBERS, st.lists(NUMBERS, max_size=2)), max_size=4)
HONEST_ONES = st.lists(st.tuples(NUMBERS, EXTRAS), min_size=1, max_size=9)
LIARS = st.lists(st.dictionaries(st.sampled_from(["loss", "only", *"abcd"]), st.one_of(NUMBERS, st.lists(NUMBERS))), max_size=8)


@given(HONEST_ONES, LIARS)
def test_a_minority_decides_no_metric_that_all_honest_clients_report(
    honest: list[tuple[float, Metrics]], liars: list[Metrics]
) -> None:
    """Whatever else honest clients report, and whatever liars add to a metric or leave out."""
    liars = liars[: len(honest) - 1]
    told: list[Metrics] = [{"n": 1, **extras, "loss": loss} for loss, extras in honest] + liars
    result: Metrics = dict(medians(told, "n"))
    losses = [loss for loss, _ in honest]
    assert min(losses) <= result["loss"] <= max(losses)
    assert len(honest) <= result["robustcomp.told.loss"] <= len(told)
    assert "only" not in result and "n" not in result
    for name in set(result) & set("abcd"):
        count = int(result[f"robustcomp.told.{name}"])
        assert len(told) < 2 * count and count <= sum(name in one for one in told)


@pytest.mark.parametrize("name", STRATEGIES)
def test_four_of_ten_do_not_decide_what_honest_nodes_of_two_kinds_report(name: str) -> None:
    """Every agreed metric is lacking in some honest reply; whoever has all of them used to be heard alone."""
    strategy = STRATEGIES[name]()
    requests = ask(strategy, 10)
    told: list[Metrics] = [{"num-examples": 1, "loss": 1 + i / 8, **({"f1": 0.5} if i % 2 else {"auc": 0.5})} for i in range(6)]
    told += [{"num-examples": 1, "loss": 1e308, "f1": -1.0}] * 4
    metrics = strategy.aggregate_evaluate(1, [_told(r, t) for r, t in zip(requests, told, strict=True)])
    assert 1 <= metrics["loss"] <= 2 and metrics["robustcomp.told.loss"] == 10
    assert metrics["robustcomp.told.f1"] == 7 and "auc" not in metrics
    compressor = strategy.packing.compressor
    replies = [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(10), told, strict=True)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert 1 <= metrics["loss"] <= 2 and metrics["robustcomp.told.loss"] == 10


@given(HONEST_ONES, LIARS)
def test_a_function_of_flowers_gets_all_clients_and_alike_contents(
    honest: list[tuple[float, Metrics]], liars: list[Metrics]
) -> None:
    told: list[Metrics] = [{**extras, "loss": loss} for loss, extras in honest] + liars[: len(honest) - 1]
    contents = filled_contents(told, list(range(len(told))), "n")
    records = [content["metrics"] for content in contents]
    assert [record["n"] for record in records] == list(range(len(told)))
    forms = [{key: np.shape(value) for key, value in record.items()} for record in records]
    assert all(form == forms[0] for form in forms) and "loss" in forms[0]


@pytest.mark.parametrize("metric", ["robustcomp.kept", "robustcomp.told.loss", "robustcomp.evaluated", DELTA_METRIC])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_client_cannot_report_under_our_names(name: str, metric: str) -> None:
    strategy = STRATEGIES[name]()
    compressor, requests = strategy.packing.compressor, ask(strategy, 3)
    told: list[Metrics] = [{"num-examples": 1, "loss": 1.0, metric: 0.5} for _ in requests]
    evaluated = strategy.aggregate_evaluate(1, [_told(r, t) for r, t in zip(requests, told, strict=True)])
    assert (evaluated["robustcomp.evaluated"], evaluated["robustcomp.evaluations-rejected"]) == (0, 3)
    strategy.aggregate_train(
        1, [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(3), told, strict=True)]
    )
    reasons = [] if metric == DELTA_METRIC else [Reason.METRICS] * 3  # a delta is told by our own mod
    assert [one.reason for one in strategy.reports[-1].rejected] == reasons


@pytest.mark.parametrize("inner", [False, True])
def test_a_metrics_function_does_not_overwrite_what_the_strategy_counts(inner: bool) -> None:
    def loud(contents: list[RecordDict], key: str) -> MetricRecord:
        return MetricRecord({"robustcomp.kept": 99, "robustcomp.evaluated": 99, "mine": len(contents)})

    functions: dict[str, Any] = {"train_metrics_aggr_fn": loud, "evaluate_metrics_aggr_fn": loud, **SAMPLING}
    strategy: Any = NormThreshold(compressor=L1Sign(), **functions)
    if inner:
        strategy = Decompressed(FedAvg(**functions), compressor=L1Sign())
    requests = ask(strategy, 3)
    metrics = strategy.aggregate_evaluate(1, [_told(r, t) for r, t in zip(requests, HONEST, strict=True)])
    assert (metrics["robustcomp.evaluated"], metrics["mine"]) == (3, 3)
    replies = [answer(r, x, L1Sign(), metrics=t) for r, x, t in zip(requests, updates(3), HONEST, strict=True)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert (metrics["robustcomp.kept"], metrics["mine"]) == (3, 3)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_median_of_the_told_deltas_is_reported(name: str) -> None:
    strategy = STRATEGIES[name]()
    compressor, requests = strategy.packing.compressor, ask(strategy, 7)
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
    replies = [answer(r, x, strategy.packing.compressor) for r, x in zip(ask(strategy, 3), updates(3), strict=True)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].delta is None and DELTA_METRIC not in metrics


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_delta_that_is_not_finite_costs_the_delta(name: str) -> None:
    strategy = STRATEGIES[name]()
    told: list[Metrics] = [{"num-examples": 1, DELTA_METRIC: d} for d in (0.5, math.nan)]
    compressor, requests = strategy.packing.compressor, ask(strategy, 2)
    strategy.aggregate_train(
        1, [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(2), told, strict=True)]
    )
    assert strategy.reports[-1].rejected == () and strategy.reports[-1].dropped_metrics == {DELTA_METRIC: 1}
    assert strategy.reports[-1].delta == 0.5


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_metric_that_is_undefined_for_some_never_quarantines(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The area under a curve, where a client has examples of one class only."""
    strategy = STRATEGIES[name]()
    compressor = strategy.packing.compressor
    told: list[Metrics] = [{"num-examples": 1, "loss": 1.0, "auc": a} for a in (0.5, 0.75, 1.0, math.nan, -math.inf)]
    for round_ in range(1, 6):
        caplog.clear()
        requests = ask(strategy, 5, round_=round_)
        with caplog.at_level("WARNING", logger="flwr"):
            replies = [answer(r, x, compressor, metrics=t) for r, x, t in zip(requests, updates(5), told, strict=True)]
            arrays, metrics = strategy.aggregate_train(round_, replies)
        assert arrays is not None and len(strategy.reports[-1].kept) == 5
        assert metrics["auc"] == 0.75 and metrics["robustcomp.told.auc"] == 3 and metrics["robustcomp.metrics-dropped"] == 2
        assert caplog.text.count("metrics dropped") == 1
    assert not strategy.ledger.standings


def test_a_strategy_that_weights_by_examples_needs_the_count() -> None:
    strategy = NormThreshold(compressor=L1Sign(), weighting="examples", **SAMPLING)
    told: list[Metrics] = [{"num-examples": n} for n in (1, math.nan, -1)] + [{"loss": 1.0}]
    replies = [answer(r, x, L1Sign(), metrics=t) for r, x, t in zip(ask(strategy, 4), updates(4), told, strict=True)]
    strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].kept == (1000,) and {r.reason for r in strategy.reports[-1].rejected} == {Reason.METRICS}


def test_names_of_dropped_metrics_are_bounded() -> None:
    """Liars choose names, and reports live as long as the run."""
    counts = counted_drops([*[f"x{i}" for i in range(1000)], "auc", "auc"])
    assert len(counts) == 65 and sum(counts.values()) == 1002
    assert next(iter(counts.items())) == ("auc", 2) and counts["(others)"] == 1000 - 63
    assert len(drops_in_words(counts)) < 300


VALUES = st.one_of(st.floats(), st.integers(), st.lists(st.floats(), max_size=3))


@given(st.dictionaries(st.sampled_from(["n", *"abcd"]), VALUES))
def test_metrics_are_kept_or_named_and_what_is_kept_is_finite(record: Metrics) -> None:
    kept, dropped = read_metrics(record, "n", False)
    assert sorted([*kept, *dropped]) == sorted(record)
    assert all(math.isfinite(number) for value in kept.values() for number in (value if isinstance(value, list) else [value]))
    if "n" in kept:
        assert read_metrics(record, "n", True) == (kept, dropped)
    else:
        with pytest.raises(Rejected):
            read_metrics(record, "n", True)
