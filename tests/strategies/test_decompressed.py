"""Flower's strategies over packed updates do what they do over dense ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from flwr_robustcomp import from_arrays, to_arrays
from flwr_robustcomp.compressors import QSGD, Compressor, Identity, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.strategies import Decompressed
from tests.apps import flat, gaussian_model
from tests.strategies.rounds import MODEL, SAMPLING, answer, answers, ask, moved, q, updates

XS = updates(9)
INNER: list[Any] = [
    lambda: FedAvg(**SAMPLING),
    lambda: FedMedian(**SAMPLING),
    lambda: FedTrimmedAvg(beta=0.2, **SAMPLING),
    lambda: Krum(num_malicious_nodes=1, **SAMPLING),
    lambda: MultiKrum(num_malicious_nodes=1, num_nodes_to_select=4, **SAMPLING),
    lambda: Bulyan(num_malicious_nodes=1, **SAMPLING),
]


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), TopK(k=3)], ids=repr)
@pytest.mark.parametrize("make", INNER, ids=["FedAvg", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan"])
def test_the_inner_strategy_sees_dense_weights(make: Any, compressor: Compressor, granularity: Granularity) -> None:
    if make is INNER[-1] and (granularity, compressor) != ("model", L1Sign()):
        return  # Flower's Bulyan takes seconds
    wrapped = Decompressed(make(), compressor=compressor, step_size=0.5, granularity=granularity)
    got = moved(wrapped, answers(wrapped, XS, compressor, granularity=granularity))

    layout = Layout.of(MODEL)
    bare, dense = make(), []
    for i, (request, x) in enumerate(zip(ask(bare, 9), XS, strict=True)):
        step = torch.cat([q(x[s.start : s.stop], compressor, i) for s in Packing.of(compressor, granularity).spans(layout)])
        weights = layout.split(flat(MODEL) - 0.5 * step)
        content = RecordDict({"arrays": to_arrays(weights), "metrics": MetricRecord({"num-examples": 3})})
        dense.append(Message(content, reply_to=request))
    arrays, _ = bare.aggregate_train(1, dense)
    assert torch.allclose(got, flat(MODEL) - flat(from_arrays(arrays)), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    model = {**gaussian_model(0, dtype), "count": torch.tensor(5)}
    wrapped = Decompressed(FedAvg(**SAMPLING), compressor=QSGD(8))
    arrays, _ = wrapped.aggregate_train(1, answers(wrapped, updates(4, model), QSGD(8), model=model))
    assert arrays is not None
    after = from_arrays(arrays)
    assert {n: t.dtype for n, t in after.items()} == {n: t.dtype for n, t in model.items()}
    assert after["count"].item() == 5


def test_replies_are_left_as_they_came() -> None:
    wrapped = Decompressed(FedTrimmedAvg(**SAMPLING), compressor=L1Sign())
    replies = answers(wrapped, XS, L1Sign())
    before = [copy.deepcopy(reply.content) for reply in replies]
    first = moved(wrapped, replies)
    assert [reply.content for reply in replies] == before
    assert torch.equal(moved(wrapped, replies), first)


def test_metrics_reach_the_inner_strategy() -> None:
    wrapped = Decompressed(FedAvg(**SAMPLING), compressor=L1Sign())
    told = [{"num-examples": n, "loss": float(n)} for n in (1, 2, 30)]
    replies = [answer(m, x, L1Sign(), metrics=t) for m, x, t in zip(ask(wrapped, 3), XS, told, strict=False)]
    _, metrics = wrapped.aggregate_train(1, replies)
    assert metrics is not None and metrics["loss"] == 2  # the median: one client cannot decide it
    assert metrics["robustcomp.kept"] == 3


def test_no_replies_leave_the_model_as_it_is() -> None:
    wrapped = Decompressed(FedAvg(**SAMPLING), compressor=L1Sign())
    ask(wrapped, 3)
    assert wrapped.aggregate_train(1, [])[0] is None
    assert wrapped.reports[-1].skipped == "no reply was accepted"


def test_a_result_that_is_not_finite_is_not_taken() -> None:
    wrapped = Decompressed(FedAvg(**SAMPLING), compressor=Identity(), step_size=1e30)
    xs = [(-1) ** i * 1e30 * x for i, x in enumerate(XS)]
    arrays, metrics = wrapped.aggregate_train(1, answers(wrapped, xs, Identity()))
    assert arrays is None and metrics is not None
    assert wrapped.reports[-1].skipped == "the inner strategy's result is not finite"


def test_an_inner_strategy_without_a_result_leaves_the_model_as_it_is() -> None:
    wrapped = Decompressed(Bulyan(num_malicious_nodes=1, **SAMPLING), compressor=L1Sign())
    assert wrapped.aggregate_train(1, answers(wrapped, XS, L1Sign())[:5])[0] is None  # it needs 4f + 3
    assert wrapped.reports[-1].skipped == "the inner strategy gave no result"


def test_only_strategies_can_be_wrapped() -> None:
    with pytest.raises(ConfigurationError, match="strategy must be a FedAvg or a descendant"):
        Decompressed("FedAvg", compressor=L1Sign())  # type: ignore[arg-type]
