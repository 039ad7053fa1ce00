"""Algorithms 1, 2 and 3 against their dense definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from flwr.app import MetricRecord

from flwr_robustcomp import from_arrays
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.compressors import Compressor, CrossPolytope, Identity, L1Sign, Sign, TopK, vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.strategies import NormThreshold, RoundReport
from flwr_robustcomp.strategies.norm_threshold import Weighting
from tests.apps import Model, app, flat, gaussian_model, node
from tests.compressors.samples import ALL
from tests.strategies.rounds import MODEL, SAMPLING, answer, answers, ask, moved, q, updates

XS = updates(11)


def _mean(xs: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(xs).double().mean(dim=0).float()


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_nothing_trimmed_equals_the_mean(compressor: Compressor, granularity: Granularity) -> None:
    if granularity == "model" and compressor.wants_matrices:
        return
    strategy = NormThreshold(compressor=compressor, step_size=0.5, granularity=granularity, **SAMPLING)
    replies = answers(strategy, XS, compressor, granularity=granularity)
    got = moved(strategy, replies)
    assert len(strategy.reports[-1].kept) == 11
    if granularity == "model":
        assert torch.allclose(got, 0.5 * _mean([q(x, compressor, i) for i, x in enumerate(XS)]), atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, math.inf])
@pytest.mark.parametrize("compressor", [c for c in ALL if c.embeds_norm and not c.wants_matrices], ids=repr)
def test_algorithm_2_drops_the_largest_compressed_norms(compressor: Compressor, order: float) -> None:
    strategy = NormThreshold(compressor=compressor, trim=3, norm_order=order, **SAMPLING)
    dense = [q(x, compressor, i) for i, x in enumerate(XS)]
    norms = [vector_norm(x, order) for x in dense]
    kept = sorted(range(11), key=norms.__getitem__)[:8]
    got = moved(strategy, answers(strategy, XS, compressor))
    assert torch.allclose(got, _mean([dense[i] for i in sorted(kept)]), atol=1e-5)
    report = strategy.reports[-1]
    assert {n - 1000 for n in report.kept} == set(kept)
    assert report.threshold == pytest.approx(max(norms[i] for i in kept), rel=1e-5)


@pytest.mark.parametrize("compressor", [Sign(), L1Sign(), TopK(k=4), Identity()], ids=repr)
def test_algorithm_1_drops_the_largest_reported_norms(compressor: Compressor) -> None:
    strategy = NormThreshold(compressor=compressor, trim=3, norm="reported", **SAMPLING)
    replies = [
        answer(m, x, compressor, norms={"norm-2": vector_norm(x, 2)}) for m, x in zip(ask(strategy, 11), XS, strict=True)
    ]
    got = moved(strategy, replies)
    kept = sorted(range(11), key=lambda i: vector_norm(XS[i], 2))[:8]
    assert torch.allclose(got, _mean([q(XS[i], compressor, i) for i in sorted(kept)]), atol=1e-5)


def test_algorithm_1_is_not_fooled_by_chosen_draws() -> None:
    # One vertex in all draws: believed to have the norm ||x||_1 / sqrt(d), and sqrt(d) / (1 + omega) times as long.
    q_, d = CrossPolytope(repetitions=40), XS[0].numel()
    strategy = NormThreshold(compressor=q_, trim=3, norm="reported", **SAMPLING)
    vertex = torch.eye(1, d).reshape(-1) * math.sqrt(d)
    replies = [
        answer(m, vertex if i < 3 else XS[i] / XS[i].norm() * 2, q_, norms={"norm-2": 1.0 if i < 3 else 2.0})
        for i, m in enumerate(ask(strategy, 11))
    ]
    moved(strategy, replies)
    report = strategy.reports[-1]
    assert not report.rejected and {n - 1000 for n in report.trimmed} == {0, 1, 2}
    assert report.norms is not None and report.norms[1000] == pytest.approx(math.sqrt(d) * 40 / (40 + d - 1), rel=1e-5)


def test_per_array_norms_are_those_of_the_whole_update() -> None:
    strategy = NormThreshold(compressor=Identity(), trim=4, granularity="array", **SAMPLING)
    moved(strategy, answers(strategy, XS, Identity(), granularity="array"))
    assert {n - 1000 for n in strategy.reports[-1].trimmed} == set(sorted(range(11), key=lambda i: vector_norm(XS[i], 2))[7:])


@pytest.mark.parametrize("compressor", [L1Sign(), TopK(k=3), Identity()], ids=repr)
def test_algorithm_3_as_the_paper_writes_it(compressor: Compressor) -> None:
    gamma, rounds, count = 0.3, 6, 5
    targets = [flat(gaussian_model(seed)) for seed in range(10, 10 + count)]

    w, residuals = flat(MODEL), [torch.zeros(23) for _ in range(count)]
    for _ in range(rounds):
        sent = []
        for i, target in enumerate(targets):
            p = gamma * (w - target) + residuals[i]
            sent.append(compressor.decompress(compressor.compress(p)))
            residuals[i] = p - sent[-1]
        w = w - _mean(sent)

    strategy = NormThreshold(compressor=compressor, step_size=gamma, **SAMPLING)
    layout, model, contexts = Layout.of(MODEL), MODEL, [node(i) for i in range(count)]

    def less(target: torch.Tensor) -> Callable[[Model], Model]:
        return lambda v: layout.split(layout.flatten(v) - target)

    clients = [app(less(t), [CompressionMod(compressor, error_feedback=True, reply="update")]) for t in targets]
    for round_ in range(1, rounds + 1):
        requests = ask(strategy, count, model, round_)
        arrays, _ = strategy.aggregate_train(
            round_, [client(r, c) for client, r, c in zip(clients, requests, contexts, strict=True)]
        )
        assert arrays is not None
        model = from_arrays(arrays)
    assert torch.allclose(flat(model), w, atol=1e-4)


@pytest.mark.parametrize("radius", [0.5, 1e9])
def test_projection_onto_a_ball(radius: float) -> None:
    free = NormThreshold(compressor=Identity(), **SAMPLING)
    bound = NormThreshold(compressor=Identity(), radius=radius, **SAMPLING)
    w = flat(MODEL) - moved(free, answers(free, XS, Identity()))
    got = flat(MODEL) - moved(bound, answers(bound, XS, Identity()))
    assert torch.allclose(got, w * min(1.0, radius / vector_norm(w, 2)), atol=1e-5)


def test_weights_are_equal_unless_told_otherwise() -> None:
    counts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1000]
    cases: list[tuple[Weighting, Sequence[float]]] = [("equal", [1.0] * 11), ("examples", counts)]
    for weighting, weights in cases:
        strategy = NormThreshold(compressor=Identity(), weighting=weighting, **SAMPLING)
        replies = [
            answer(m, x, Identity(), metrics={"num-examples": n}) for m, x, n in zip(ask(strategy, 11), XS, counts, strict=True)
        ]
        wanted = sum((n * x for n, x in zip(weights, XS, strict=True)), torch.zeros_like(XS[0])) / sum(weights)
        assert torch.allclose(moved(strategy, replies), wanted, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_models_dtypes_are_kept(dtype: torch.dtype) -> None:
    model = {**gaussian_model(0, dtype), "count": torch.tensor(5), "flag": torch.tensor([True, False])}
    strategy = NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, updates(5, model), L1Sign(), model=model))
    assert arrays is not None
    after = from_arrays(arrays)
    assert list(after) == list(model)
    assert {n: (t.dtype, t.shape) for n, t in after.items()} == {n: (t.dtype, t.shape) for n, t in model.items()}


def test_integer_arrays_get_the_median_of_all_accepted() -> None:
    strategy = NormThreshold(compressor=Identity(), trim=1, **SAMPLING)
    model = {"w": torch.zeros(2), "count": torch.tensor(5)}
    requests = ask(strategy, 5, model)
    replies = []
    for request, size, count in zip(requests, (1.0, 2.0, 3.0, 4.0, 100.0), (6, 7, 2**60, 8, 2**61), strict=True):
        told = {"w": torch.zeros(2), "count": torch.tensor(count)}
        replies.append(answer(request, torch.full((2,), size), Identity(), model=told))
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None and from_arrays(arrays)["count"].item() == 8


def test_a_round_reports_itself() -> None:
    seen: list[RoundReport] = []
    strategy = NormThreshold(compressor=L1Sign(), trim=2, on_round=seen.append, **SAMPLING)
    replies = answers(strategy, XS, L1Sign(), metrics={"num-examples": 3, "train-loss": 0.5})
    _, metrics = strategy.aggregate_train(1, replies)
    assert metrics is not None and seen == strategy.reports
    report = seen[0]
    assert (report.round_, len(report.kept), len(report.trimmed), report.rejected) == (1, 9, 2, ())
    assert all(norm >= report.threshold for norm in report.trimmed.values() if report.threshold is not None)
    assert report.bytes_received == 11 * (8 + 3) == metrics["robustcomp.bytes-received"]
    assert metrics["robustcomp.trimmed-nodes"] == list(report.trimmed)
    assert metrics["train-loss"] == pytest.approx(0.5)
    assert isinstance(metrics, MetricRecord)


def test_order_of_arrival_does_not_matter() -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=2, **SAMPLING)
    replies = answers(strategy, XS, L1Sign())
    assert torch.equal(moved(strategy, replies), moved(strategy, replies[::-1]))


def test_too_few_replies_leave_the_model_as_it_is() -> None:
    strategy = NormThreshold(compressor=L1Sign(), trim=3, **SAMPLING)
    replies = answers(strategy, XS, L1Sign())
    arrays, metrics = strategy.aggregate_train(1, replies[:6])
    assert arrays is None and metrics is not None
    assert strategy.reports[-1].skipped == "trimming 3 needs more than 6 accepted replies, got 6"
    assert strategy.aggregate_train(1, [])[0] is None


def test_a_step_that_overflows_is_not_taken() -> None:
    strategy = NormThreshold(compressor=Identity(), step_size=1e30, **SAMPLING)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, [1e30 * x for x in XS], Identity()))
    assert arrays is None and "overflows" in str(strategy.reports[-1].skipped)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"trim": 0.7}, r"trim must be a count \(integer >= 0\) or a fraction in \[0, 0.5\), got 0.7"),
        ({"trim": -2}, "trim must be a count"),
        ({"norm": "l2"}, "norm must be one of compressed, reported, got 'l2'"),
        ({"norm_order": 3}, "norm_order must be one of 1, 2, inf, got 3"),
        ({"step_size": 0.0}, r"step_size must be positive and at most 3.4e\+38, got 0.0"),
        ({"step_size": 1e39}, r"step_size must be positive and at most 3.4e\+38, got 1e\+39"),
        ({"step_size": math.inf}, r"step_size must be positive and at most 3.4e\+38, got inf"),
        ({"step_size": math.nan}, r"step_size must be positive and at most 3.4e\+38, got nan"),
        ({"radius": -1.0}, "radius must be positive or None, got -1.0"),
        ({"weighting": "loss"}, "weighting must be one of equal, examples, got 'loss'"),
        ({"granularity": "layer"}, "granularity must be one of model, array, got 'layer'"),
        ({"compressor": "l1-sign"}, "compressor must be a Compressor or a Choice, got 'l1-sign'"),
        ({"compressor": Sign(), "trim": 1}, "norm must be \"reported\" for the compressor 'sign'"),
    ],
)
def test_bad_options_raise_at_construction(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        NormThreshold(**{"compressor": L1Sign(), **options})


def test_aggregation_needs_a_model() -> None:
    with pytest.raises(ConfigurationError, match="call configure_train first"):
        NormThreshold(compressor=L1Sign()).aggregate_train(1, [])
