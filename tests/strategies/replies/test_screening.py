"""No reply ends a round; the honest ones decide it."""

from __future__ import annotations

import copy
import math
import tracemalloc
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian

from benchmarks.hostile_replies import HARMLESS, HOSTILE
from flwr_robustcomp import wire
from flwr_robustcomp.compressors import L1Sign, Sign, TopK, vector_norm
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Reason, SignMajorityVote
from flwr_robustcomp.strategies.report import STRANGERS
from tests.strategies.rounds import SAMPLING, answer, answers, ask, moved, updates

XS = updates(9)


def _strategy(kind: str) -> NormThreshold | Decompressed:
    if kind == "norm-threshold":
        return NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    return Decompressed(FedMedian(**SAMPLING), compressor=L1Sign())


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_a_hostile_reply_is_rejected_and_changes_nothing(name: str, kind: str) -> None:
    reason, spoil = HOSTILE[name]
    strategy = _strategy(kind)
    replies = answers(strategy, XS, L1Sign())
    honest = moved(strategy, answers(strategy, XS, L1Sign())[:8])
    got = moved(strategy, [*replies[:8], spoil(replies[8])])
    assert torch.allclose(got, honest, atol=1e-6)
    (rejection,) = strategy.reports[-1].rejected
    assert rejection.reason == reason and rejection.detail and len(rejection.detail) < 2000
    assert rejection.node_id in (1008, 424242, STRANGERS)


@pytest.mark.parametrize("name", HARMLESS)
def test_an_unusual_reply_with_an_honest_update_is_used(name: str) -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    honest = moved(strategy, answers(strategy, XS, L1Sign()))
    replies = answers(strategy, XS, L1Sign())
    assert torch.equal(moved(strategy, [*replies[:8], HARMLESS[name](replies[8])]), honest)
    assert strategy.reports[-1].rejected == ()


def test_all_hostile_replies_at_once() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    xs = updates(9 + len(HOSTILE))
    replies = answers(strategy, xs, L1Sign())
    spoiled = [spoil(reply) for (_, spoil), reply in zip(HOSTILE.values(), replies[9:], strict=True)]
    wanted = moved(strategy, replies[:9])
    assert torch.allclose(moved(strategy, replies[:9] + spoiled), wanted, atol=1e-6)
    assert len(strategy.reports[-1].rejected) == len(HOSTILE)


def test_a_hostile_reply_costs_no_more_memory_than_an_honest_one() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    honest = answers(strategy, XS, L1Sign())

    def peak(replies: list[Message]) -> int:
        tracemalloc.start()
        strategy.receiver.screen(replies)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(honest)  # fills the caches
    allowed = peak(honest) + 2**18
    for name, (_, spoil) in HOSTILE.items():
        spoiled = [*honest[:8], spoil(copy.deepcopy(honest[8]))]
        assert peak(spoiled) <= allowed, name


def test_lost_nodes_are_named_one_by_one_although_the_superlink_answers_for_all() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    replies = answers(strategy, XS, L1Sign())
    lost = [HOSTILE["error reply"][1](reply) for reply in replies[7:]]
    for reply in lost:
        reply.metadata.__dict__["_src_node_id"] = 1
    wanted = moved(strategy, replies[:7])
    assert torch.equal(moved(strategy, replies[:7] + lost), wanted)
    assert [(r.node_id, r.reason) for r in strategy.reports[-1].rejected] == [(1, Reason.ERROR_REPLY)] * 2


def test_nobody_counts_twice() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    replies = answers(strategy, XS, L1Sign())
    wanted = moved(strategy, replies[:8])
    assert torch.equal(moved(strategy, [*replies, replies[8]]), wanted)
    assert [r.reason for r in strategy.reports[-1].rejected] == [Reason.DUPLICATE]


@pytest.mark.parametrize("norm", [None, math.nan, math.inf, -1.0, 0.0, 1e-3, 1e9])
def test_a_norm_that_no_such_update_has_is_not_believed(norm: float | None) -> None:
    strategy = NormThreshold(compressor=L1Sign(), norm="reported", **SAMPLING)
    requests = ask(strategy, 5)
    told = [{"norm-2": vector_norm(x, 2)} for x in XS[:5]]
    told[4] = {} if norm is None else {"norm-2": norm}
    strategy.aggregate_train(1, [answer(m, x, L1Sign(), norms=t) for m, x, t in zip(requests, XS, told, strict=False)])
    assert [(r.node_id, r.reason) for r in strategy.reports[-1].rejected] == [(1004, Reason.NORM)]


@pytest.mark.parametrize(("compressor", "share"), [(L1Sign(), 1.0), (TopK(k=5), 1.0), (Sign(), 0.001)], ids=repr)
def test_honest_norms_are_believed(compressor: L1Sign | TopK | Sign, share: float) -> None:
    strategy = NormThreshold(compressor=compressor, norm="reported", **SAMPLING)
    requests = ask(strategy, 9)
    strategy.aggregate_train(
        1, [answer(m, x, compressor, norms={"norm-2": share * vector_norm(x, 2)}) for m, x in zip(requests, XS, strict=True)]
    )
    assert strategy.reports[-1].rejected == ()


def test_rejections_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    replies = answers(strategy, XS, L1Sign())
    with caplog.at_level("WARNING", logger="flwr"):
        strategy.aggregate_train(1, [*replies[:8], HOSTILE["truncated bytes"][1](replies[8])])
    assert "rejected node 1008 (wire): data must be 11 bytes, got 10" in caplog.text


def _evaluation(strategy: NormThreshold | SignMajorityVote | Decompressed, metrics: list[dict[str, Any]]) -> list[Message]:
    replies = []
    for request, values in zip(ask(strategy, len(metrics)), metrics, strict=True):
        content = RecordDict({"metrics": MetricRecord(values), "c": ConfigRecord()})
        replies.append(Message(content, reply_to=request))
    return replies


@pytest.mark.parametrize("kind", ["norm-threshold", "decompressed"])
def test_evaluation_replies_are_screened_too(kind: str) -> None:
    good: list[dict[str, object]] = [{"num-examples": 2, "loss": 1.0}, {"num-examples": 6, "loss": 2.0}]
    bad: list[dict[str, object]] = [{"num-examples": 2, "loss": math.nan}, {"loss": 1.0}, {"num-examples": [1, 2], "loss": 1.0}]
    strategy = _strategy(kind)
    result = strategy.aggregate_evaluate(1, _evaluation(strategy, good + bad))
    assert result is not None and result["loss"] == 1.0  # the median of 1, 2, 1 and 1
    assert (result["robustcomp.evaluated"], result["robustcomp.evaluations-rejected"]) == (5, 0)
    assert result["robustcomp.evaluation-metrics-dropped"] == 2  # NaN, and a count that is a list
    assert strategy.aggregate_evaluate(1, []) is None


def test_a_minority_can_neither_add_nor_suppress_metrics() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    requests = ask(strategy, 5)
    told: list[dict[str, object]] = [{"num-examples": 3, "loss": 1.0} for _ in range(3)]
    told += [{"num-examples": 3, "more": 5.0}, {"num-examples": 3, "loss": [1.0, 2.0]}]
    replies = [answer(m, x, L1Sign(), metrics=t) for m, x, t in zip(requests, XS, told, strict=False)]
    _, metrics = strategy.aggregate_train(1, replies)
    assert metrics is not None and metrics["loss"] == pytest.approx(1.0) and "more" not in metrics
    assert wire.MODEL_ARRAY not in metrics
