"""What an inner strategy sees of the replies, and that no reply's records end a run."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, QFedAvg
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import Decompressed, Policy, wire
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError, QuorumError
from flwr_robustcomp.spans import DELTA_METRIC
from flwr_robustcomp.strategies import Reason
from flwr_robustcomp.strategies.flower.handing_over import odd_ones
from tests.strategies.rounds import MODEL, SAMPLING, answer, ask, updates

XS = updates(5)
Told = list[dict[str, Any]]


class Watching(FedAvg):
    """Somebody's strategy that reads what its clients send, and then averages as Flower does."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.seen = [message.content for message in replies]
        return super().aggregate_train(server_round, replies)


class Needing(FedAvg):
    """Somebody's strategy that takes a metric for granted."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        losses = [next(iter(m.content.metric_records.values()))["loss"] for m in replies]
        if min(losses) < 0:
            raise ValueError("a loss below zero")
        arrays, metrics = super().aggregate_train(server_round, replies)
        return arrays, MetricRecord({**(metrics or {}), "mine": float(len(losses))})


def _play(strategy: Any, told: Told, more: list[dict[str, Any]] | None = None, round_: int = 1) -> Any:
    replies = [
        answer(m, x, L1Sign(), metrics=t) for m, x, t in zip(ask(strategy, len(told), round_=round_), XS, told, strict=False)
    ]
    for reply, records in zip(replies, more or [], strict=False):
        for key, record in records.items():
            reply.content[key] = record
    before = [copy.deepcopy(reply.content) for reply in replies]
    result = strategy.aggregate_train(round_, replies)
    assert [reply.content for reply in replies] == before
    return result


def _alike(**metrics: Any) -> Told:
    return [{"num-examples": 2, **metrics} for _ in XS]


def test_records_and_metrics_come_as_the_training_function_sent_them() -> None:
    told = _alike(loss=1.0)
    told[1] = {"num-examples": 2, "only-mine": 7, "curve": [1.0, 2.0], DELTA_METRIC: 0.5}
    hyper = ConfigRecord({"epochs": 3, "tag": "a"})
    strategy: Any = Decompressed(Watching(**SAMPLING), compressor=L1Sign())
    arrays, _ = _play(strategy, told, [{}, {"hyper": hyper, wire.NORM_RECORD: ConfigRecord({"x": 1.0})}])
    assert arrays is not None and len(strategy.reports[-1].kept) == 5
    seen = strategy.strategy.seen
    assert dict(seen[1]["metrics"]) == {"num-examples": 2, "only-mine": 7, "curve": [1.0, 2.0]}
    assert seen[1]["hyper"] == hyper and set(seen[1]) == {"arrays", "metrics", "hyper"}
    assert dict(seen[0]["metrics"]) == told[0] and set(seen[0]) == {"arrays", "metrics"}
    assert all(set(content["arrays"]) == set(MODEL) for content in seen)
    assert all(content["arrays"]["weight"].numpy().shape == tuple(MODEL["weight"].shape) for content in seen)


def test_further_arrays_reach_a_strategy_of_ones_own_and_not_flowers_mean() -> None:
    control = ArrayRecord({"weight": next(iter(ArrayRecord(MODEL).values()))})
    plain: Any = Decompressed(FedAvg(**SAMPLING), compressor=L1Sign())
    alone, _ = _play(plain, _alike())
    for kind in (Watching, FedMedian, Krum):
        strategy: Any = Decompressed(kind(**SAMPLING), compressor=L1Sign())
        arrays, _ = _play(strategy, _alike(), [{"control": control}] * 5)
        assert arrays is not None and strategy.reports[-1].rejected == ()
        if kind is Watching:
            assert strategy.strategy.seen[0]["control"] == control
            assert arrays == alone


@pytest.mark.parametrize("kind", [FedAvg, FedAdam, FedMedian, FedTrimmedAvg, Krum, MultiKrum, Watching])
def test_flowers_strategies_take_replies_that_are_not_alike(kind: type[FedAvg]) -> None:
    told: Told = [{"num-examples": 1, f"m{i}": float(i)} for i in range(3)] + [
        {"num-examples": 1, "loss": [1.0] * i} for i in (1, 2)
    ]
    strategy: Any = Decompressed(kind(**SAMPLING), compressor=L1Sign())
    arrays, metrics = _play(strategy, told)
    assert arrays is not None and len(strategy.reports[-1].kept) == 5
    assert [name for name in metrics if not name.startswith("robustcomp.")] == []  # nothing that most clients report


def test_the_weight_is_found_in_whatever_record_it_stands() -> None:
    strategy: Any = Decompressed(FedAvg(**SAMPLING), compressor=L1Sign())
    replies = [answer(m, x, L1Sign()) for m, x in zip(ask(strategy, 5), XS, strict=True)]
    replies[2].content["others"] = replies[2].content.pop("metrics")  # another name than everybody's
    assert strategy.aggregate_train(1, replies)[0] is not None
    assert len(strategy.reports[-1].kept) == 5


def test_a_metrics_function_of_ones_own_sees_all_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, Any]] = []

    def best(contents: list[RecordDict], key: str) -> MetricRecord:
        seen[:] = [dict(content["metrics"]) for content in contents]
        return MetricRecord({"best": min(one["loss"] for one in seen)})

    told = _alike(loss=2.0)
    told[0]["extra"] = 1
    strategy: Any = Decompressed(FedAvg(train_metrics_aggr_fn=best, **SAMPLING), compressor=L1Sign())
    arrays, metrics = _play(strategy, told)
    assert arrays is not None and metrics["best"] == 2.0 and "loss" not in metrics
    assert seen == told
    del told[3]["loss"]
    with caplog.at_level("WARNING", logger="flwr"):
        arrays, metrics = _play(strategy, told)
    assert arrays is not None and metrics["loss"] == 2.0 and "best" not in metrics
    assert "train_metrics_aggr_fn raised KeyError: 'loss': the medians stand in for it" in caplog.text
    assert strategy.strategy.train_metrics_aggr_fn is best


def test_metrics_that_the_inner_strategy_adds_are_kept() -> None:
    strategy: Any = Decompressed(Needing(**SAMPLING), compressor=L1Sign())
    _, metrics = _play(strategy, _alike(loss=2.0))
    assert (metrics["mine"], metrics["loss"], metrics["robustcomp.kept"]) == (5.0, 2.0, 5)


def test_whoever_makes_the_inner_strategy_raise_is_left_out() -> None:
    told = _alike(loss=2.0)
    del told[2]["loss"]
    strategy: Any = Decompressed(Needing(**SAMPLING), compressor=L1Sign())
    arrays, metrics = _play(strategy, told)
    assert arrays is not None and metrics["mine"] == 4.0
    (rejection,) = strategy.reports[-1].rejected
    assert rejection.reason is Reason.RECORDS
    assert rejection.detail == (
        "its records differ from most, it lacks 'loss' of 'metrics', a number, and the inner strategy raised KeyError: 'loss'"
    )
    assert rejection.node_id not in strategy.reports[-1].kept


def test_what_an_inner_strategy_raises_on_replies_that_are_alike_is_its_own_fault_at_first() -> None:
    strategy: Any = Decompressed(Needing(**SAMPLING), compressor=L1Sign())
    with pytest.raises(KeyError, match="loss"):
        _play(strategy, _alike())


def test_afterwards_it_costs_the_round_and_the_policys_patience(caplog: pytest.LogCaptureFixture) -> None:
    strategy: Any = Decompressed(Needing(**SAMPLING), compressor=L1Sign(), policy=Policy(patience=2))
    _play(strategy, _alike(loss=2.0))
    bad = _alike(loss=2.0)
    bad[4]["loss"] = -1.0
    with caplog.at_level("WARNING", logger="flwr"):
        assert _play(strategy, bad, round_=2)[0] is None
    report = strategy.reports[-1]
    assert (report.skipped, report.quorum, report.kept) == (
        "the inner strategy raised ValueError: a loss below zero",
        False,
        (),
    )
    assert "in aggregate_train" in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    _play(strategy, bad, round_=3)
    with pytest.raises(QuorumError, match="a loss below zero"):
        ask(strategy, 5, round_=4)


def test_state_that_a_failed_call_changed_is_taken_back() -> None:
    class Half(FedAdam):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            result = super().aggregate_train(server_round, replies)
            [message.content["metrics"]["loss"] for message in replies]
            return result

    told = _alike(loss=2.0)
    del told[2]["loss"]
    strategy: Any = Decompressed(Half(**SAMPLING), compressor=L1Sign())
    arrays, _ = _play(strategy, told)
    other: Any = Decompressed(FedAdam(**SAMPLING), compressor=L1Sign())
    replies = [answer(m, x, L1Sign(), metrics={"num-examples": 2}) for m, x in zip(ask(other, 5), XS, strict=True)]
    expected, _ = other.aggregate_train(1, replies[:2] + replies[3:])
    assert arrays == expected


@pytest.mark.parametrize("loss", [None, -1.0, [1.0]])
def test_q_fed_avg_leaves_out_who_tells_no_loss(loss: Any) -> None:
    told = _alike(train_loss=2.0)
    told[1].pop("train_loss")
    told[1] |= {} if loss is None else {"train_loss": loss}
    strategy: Any = Decompressed(QFedAvg(0.1, **SAMPLING), compressor=L1Sign())
    arrays, _ = _play(strategy, told)
    assert arrays is not None
    (rejection,) = strategy.reports[-1].rejected
    assert (rejection.reason, rejection.detail) == (
        Reason.METRICS,
        "metric 'train_loss' must be a number from 0, which QFedAvg weights by",
    )


# -- evaluation -----------------------------------------------------------------------------------------------------------


def _evaluate(strategy: Any, told: Told) -> Any:
    replies = [
        Message(RecordDict({"m": MetricRecord(t)}), reply_to=r) for r, t in zip(ask(strategy, len(told)), told, strict=True)
    ]
    return strategy.aggregate_evaluate(1, replies)


class Judging(FedAvg):
    def aggregate_evaluate(self, server_round: int, replies: Any) -> MetricRecord:
        self.seen = [dict(message.content["m"]) for message in replies]
        return MetricRecord({"worst": max(one["loss"] for one in self.seen)})


def test_an_evaluation_of_ones_own_sees_what_clients_sent() -> None:
    told = _alike(loss=2.0)
    told[0]["extra"] = [1]
    strategy: Any = Decompressed(Judging(**SAMPLING), compressor=L1Sign())
    metrics = _evaluate(strategy, told)
    assert (metrics["worst"], metrics["robustcomp.evaluated"]) == (2.0, 5)
    assert strategy.strategy.seen == told


def test_one_client_does_not_end_the_run_by_its_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    told = _alike(loss=2.0)
    del told[0]["loss"]
    strategy: Any = Decompressed(Judging(**SAMPLING), compressor=L1Sign())
    with caplog.at_level("WARNING", logger="flwr"):
        metrics = _evaluate(strategy, told)
    assert metrics["loss"] == 2.0 and "aggregate_evaluate raised KeyError: 'loss'" in caplog.text
    with pytest.raises(KeyError):
        _evaluate(strategy, _alike())  # nobody tells it: the strategy asks for what its app does not have
    _evaluate(strategy, _alike(loss=1.0))
    assert "worst" not in _evaluate(strategy, _alike())


# -- forms ----------------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.integers(0, 3), st.floats(0, 1), st.lists(st.integers(0, 3), max_size=2))
METRICS = st.dictionaries(KEYS, VALUES, max_size=3)


@given(usual=METRICS, odd=st.lists(METRICS, max_size=4))
def test_a_majority_that_is_alike_is_never_odd(usual: dict[str, Any], odd: list[dict[str, Any]]) -> None:
    told = [usual] * (len(odd) + 1) + odd
    found = odd_ones([RecordDict({"m": MetricRecord(one)}) for one in told])
    assert all(i > len(odd) for i in found)
    shape = {k: len(v) if isinstance(v, list) else None for k, v in usual.items()}
    for i, one in enumerate(odd, start=len(odd) + 1):
        same = {k: len(v) if isinstance(v, list) else None for k, v in one.items()} == shape
        assert (i in found) is not same


def test_other_kinds_of_records_are_odd_too() -> None:
    contents = [RecordDict({"c": ConfigRecord({"x": 1})})] * 2 + [RecordDict({"c": ConfigRecord({"x": "1"})}), RecordDict()]
    assert odd_ones(contents[:3]) == {2: "lacks 'x' of 'c', a number"}
    assert odd_ones([*contents[:2], contents[3]]) == {2: "lacks 'x' of 'c', a number"}
    assert odd_ones([RecordDict(), RecordDict(), contents[0]]) == {2: "has 'x' of 'c', a number"}


def test_flower_still_has_the_check_that_is_stepped_over() -> None:
    strategy = FedAvg()
    assert strategy._check_and_log_replies([], True, validate=False) == ([], [])
    told: Told = [{"num-examples": 1, "a": 1}, {"num-examples": 1, "b": 1}]
    replies = [answer(m, x, L1Sign(), metrics=t) for m, x, t in zip(ask(strategy, 2), XS, told, strict=False)]
    with pytest.raises(Exception, match="same keys"):
        strategy.aggregate_train(1, replies)


def test_only_strategies_end_in_a_fed_avg() -> None:
    with pytest.raises(ConfigurationError, match="a wrapper of one"):
        Decompressed(None, compressor=L1Sign())  # type: ignore[arg-type]


def test_a_further_array_of_another_shape_or_dtype_is_odd() -> None:
    def content(*shape: int, dtype: str = "float32") -> RecordDict:
        return RecordDict({"control": ArrayRecord({"w": Array(np.zeros(shape, dtype))})})

    usual = [content(4) for _ in range(3)]
    assert odd_ones([*usual, content(4)]) == {}
    (why,) = odd_ones([*usual, content(5)]).values()
    assert "an array of float32, shape (4)" in why
    assert set(odd_ones([*usual, content(4, dtype="float64")])) == {3}
