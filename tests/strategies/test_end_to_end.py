"""From somebody's training function through the mod, the wire and screening to the new model, and back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from flwr_robustcomp import from_arrays
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.compressors import Compressor, L1Sign, TopK
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies import NormThreshold
from tests.apps import Model, app, node
from tests.compressors.samples import ALL, DTYPE_LIST
from tests.strategies.rounds import SAMPLING, ask

NODES = 5


def _model(dtype: torch.dtype) -> Model:
    draw = torch.Generator().manual_seed(3)
    return {
        "weight": torch.randn(4, 5, generator=draw).to(dtype),
        "bn.running_mean": torch.randn(2, generator=draw).to(dtype),
        "bn.num_batches_tracked": torch.tensor(0),
        "scale": torch.randn((), generator=draw).to(dtype),
        "bias": torch.randn(3, generator=draw).to(dtype),
    }


def _train(target: Model) -> Any:
    """Return a training function that goes half of the way to a target, and counts."""
    return lambda w: {n: t + 1 if n.endswith("tracked") else (t + target[n].to(t.dtype)) / 2 for n, t in w.items()}


def _run(strategy: NormThreshold, model: Model, mod: CompressionMod, rounds: int) -> Model:
    targets = [{n: t * (1 + 0.1 * i) for n, t in _model(torch.float64).items()} for i in range(NODES)]
    clients = [app(_train(target), [mod]) for target in targets]
    contexts = [node(i) for i in range(NODES)]
    for round_ in range(1, rounds + 1):
        requests = ask(strategy, NODES, model, round_)
        replies = [client(r, c) for client, r, c in zip(clients, requests, contexts, strict=True)]
        arrays, _ = strategy.aggregate_train(round_, replies)
        assert arrays is not None and strategy.reports[-1].rejected == ()
        model = from_arrays(arrays)
    return model


@pytest.mark.parametrize("error_feedback", [False, True], ids=["plain", "error-feedback"])
@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_an_honest_norm_is_believed(compressor: Compressor, granularity: Any, error_feedback: bool) -> None:
    if granularity == "model" and compressor.wants_matrices:
        return
    for dtype, order in zip(DTYPE_LIST, (2, 1, 2, math.inf), strict=True):
        before = _model(dtype)
        mod = CompressionMod(compressor, error_feedback=error_feedback, granularity=granularity, report_norm=order)
        strategy = NormThreshold(
            compressor=compressor, trim=1, norm="reported", norm_order=order, granularity=granularity, **SAMPLING
        )
        after = _run(strategy, before, mod, rounds=2)
        assert [(n, t.dtype, t.shape) for n, t in after.items()] == [(n, t.dtype, t.shape) for n, t in before.items()]
        assert after["bn.num_batches_tracked"].item() == 2
        assert all(bool(torch.isfinite(t).all()) for t in after.values())


@pytest.mark.parametrize("compressor", [L1Sign(), TopK(ratio=0.2)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_error_feedback_goes_where_uncompressed_training_goes(compressor: Compressor, dtype: torch.dtype) -> None:
    start = {n: torch.zeros_like(t) for n, t in _model(dtype).items()}
    layout = Layout.of(start)
    strategy = NormThreshold(compressor=compressor, step_size=0.2, **SAMPLING)
    after = _run(strategy, start, CompressionMod(compressor, error_feedback=True), rounds=150)
    goal = layout.flatten(_model(dtype)) * 1.2  # the mean of the targets
    assert float((layout.flatten(after) - goal).norm() / goal.norm()) < 0.02
