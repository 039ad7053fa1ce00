"""Filters on packed replies against the same filters on what they decompress to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error, Message

from benchmarks.parts.vectors import known
from flwr_robustcomp.compressors import Compressor, L1Sign, SparseTernary, TernGrad
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import FILTERS, Filter, NormClipping, Spectral, Vectors, chain
from flwr_robustcomp.strategies import Policy, RobustCompressed
from flwr_robustcomp.strategies.server_step import Momentum
from tests.apps import gaussian_model
from tests.compressors.samples import ALL, gaussian
from tests.strategies.rounds import SAMPLING, answer, answers, ask, moved, q, root_of, updates

XS = updates(11)
XS[4] = 3 * XS[4]


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_is_the_dense_one(name: str, granularity: Any) -> None:
    compressor, rule = L1Sign(), FILTERS[name](2)
    strategy = RobustCompressed(
        compressor=compressor, filters=[rule], granularity=granularity, step_size=0.5, root=root_of(XS[0]), **SAMPLING
    )
    got = moved(strategy, answers(strategy, XS, compressor, granularity=granularity)).double()
    if granularity == "model":
        dense = np.stack([q(x, compressor, i).double().numpy() for i, x in enumerate(XS)])
        assert np.allclose(got.numpy(), 0.5 * (chain([rule], known(dense, XS[0].double().numpy())) @ dense), atol=1e-5)
    assert bool(torch.isfinite(got).all()) and float(got.abs().max()) > 0


@pytest.mark.parametrize("compressor", [c for c in ALL if not c.wants_matrices], ids=repr)
def test_every_compressor_can_be_filtered_by_inner_products(compressor: Compressor) -> None:
    strategy = RobustCompressed(compressor=compressor, trim=2, filters="multi-krum", **SAMPLING)
    dense = np.stack([q(x, compressor, i).double().numpy() for i, x in enumerate(XS)])
    weights = chain([FILTERS["multi-krum"](2)], Vectors.of_gram(dense @ dense.T))
    assert np.allclose(moved(strategy, answers(strategy, XS, compressor)).double().numpy(), weights @ dense, atol=1e-5)


def test_the_report_says_who_was_dropped_and_how_long_it_was() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=1, filters="norm+spectral", **SAMPLING)
    moved(strategy, answers(strategy, XS, L1Sign()))
    report = strategy.reports[-1]
    norm = float(torch.linalg.vector_norm(q(XS[4], L1Sign(), 4)))
    assert report.trimmed[1004] == pytest.approx(norm, rel=1e-5)
    assert set(report.kept) | set(report.trimmed) == set(range(1000, 1011))


def test_a_round_with_too_few_replies_leaves_the_model_and_says_why() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=4, **SAMPLING)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, XS, L1Sign())[:10])
    assert arrays is None
    assert strategy.reports[-1].skipped == "'spectral' with trim 4 needs at least 11 updates, got 10"


@pytest.mark.parametrize("filters", ["spectral", "multi-krum"])
def test_senders_of_garbage_do_not_leave_a_filter_with_too_few(filters: str) -> None:
    """Who was rejected is no longer among the accepted, and need not be looked for there: 13 - 5 replies, none to trim."""
    xs = updates(13)
    strategy = RobustCompressed(compressor=L1Sign(), trim=5, filters=filters, policy=Policy(patience=1), **SAMPLING)
    for _ in range(3):
        replies = answers(strategy, xs, L1Sign())
        for reply in replies[:5]:
            next(iter(reply.content.array_records["arrays"].values())).data = b"garbage"
        arrays, _ = strategy.aggregate_train(1, replies)
        assert arrays is not None and strategy.reports[-1].kept == tuple(range(1005, 1013))


def test_nodes_that_fail_spend_no_trim() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=5, **SAMPLING)
    requests = ask(strategy, 13)
    failed = [Message(Error(0), reply_to=request) for request in requests[:5]]
    honest = [answer(request, x, L1Sign()) for request, x in zip(requests[5:], updates(8), strict=True)]
    strategy.aggregate_train(1, [*failed, *honest])
    assert strategy.reports[-1].skipped == "'spectral' with trim 5 needs at least 13 updates, got 8"


def test_momentum_runs_over_the_rounds() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), filters=[], step=Momentum(1.0, 0.5), **SAMPLING)
    first = moved(strategy, answers(strategy, XS, L1Sign()))
    second = moved(strategy, answers(strategy, XS, L1Sign()))
    assert torch.allclose(second, 1.5 * first, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"filters": "spectra"}, "filters must be one of bucketing, .*, got 'spectra'"),
        ({"trim": 0.5}, r"trim must be a count \(integer >= 0\) or a fraction in \[0, 0.5\), got 0.5"),
        ({"trim": 0.3, "filters": "norm+spectral"}, "filters must be trimming less than half together"),
        ({"step": Momentum(), "step_size": 0.1}, "step_size must be set in the step"),
        ({"radius": -1.0}, "radius must be positive"),
    ],
)
def test_bad_configurations_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RobustCompressed(compressor=L1Sign(), **options)


def test_filters_keep_their_own_trim() -> None:
    rules: list[Filter | str] = [NormClipping(3), "spectral"]
    assert RobustCompressed(compressor=L1Sign(), trim=2, filters=rules).filters == (NormClipping(3), Spectral(2))


def test_a_sketch_looks_at_other_coordinates_each_round_and_at_the_same_for_the_same_seed() -> None:
    model = {"w": torch.zeros(1000)}
    xs, compressor = [gaussian(1000, seed=i) for i in range(11)], L1Sign()  # alike in length: directions decide

    seen = []
    for seed in (5, 5, 6):
        strategy = RobustCompressed(compressor=compressor, trim=2, filters="multi-krum", sketch=64, seed=seed, **SAMPLING)
        for round_ in range(1, 5):
            strategy.aggregate_train(round_, answers(strategy, xs, compressor, model=model))
        seen.append([tuple(report.trimmed) for report in strategy.reports])
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]
    assert len(set(seen[0])) > 1


def test_a_sketch_of_more_than_the_model_is_the_whole() -> None:
    whole = RobustCompressed(compressor=L1Sign(), trim=2, **SAMPLING)
    sketched = RobustCompressed(compressor=L1Sign(), trim=2, sketch=10**6, **SAMPLING)
    assert torch.equal(moved(whole, answers(whole, XS, L1Sign())), moved(sketched, answers(sketched, XS, L1Sign())))


@pytest.mark.parametrize("compressor", [L1Sign(), TernGrad(), SparseTernary(k=5)], ids=repr)
@pytest.mark.parametrize("filters", ["spectral", "multi-krum", "geometric-median", "nearest-neighbor-mixing+centred-clipping"])
@pytest.mark.parametrize("scale", [1e150, 1e200, 1e300])
def test_lengths_whose_squares_overflow_are_dropped_before_filtering(
    compressor: Compressor, filters: str, scale: float
) -> None:
    model = gaussian_model(0, torch.float64)
    xs = [x.double() for x in updates(12, model)]
    strategy = RobustCompressed(compressor=compressor, trim=3, filters=filters, **SAMPLING)
    replies = answers(strategy, [scale * x if i < 2 else x for i, x in enumerate(xs)], compressor, model=model)
    got = moved(strategy, replies, model=model)
    report = strategy.reports[-1]
    assert {replies[0].metadata.src_node_id, replies[1].metadata.src_node_id} <= set(report.trimmed)
    assert report.norms.keys() == {*report.kept, *report.trimmed} and report.skipped is None
    left = RobustCompressed(compressor=compressor, trim=1, filters=filters, **SAMPLING)  # two are found
    honest = answers(left, xs, compressor, model=model)[2:]
    assert torch.allclose(got, moved(left, honest, model=model))


def test_nothing_but_overlong_updates_skips_the_round() -> None:
    model = gaussian_model(0, torch.float64)
    choices: list[str | list[Filter]] = ["spectral", []]
    for filters in choices:
        strategy = RobustCompressed(compressor=L1Sign(), trim=1, filters=filters, **SAMPLING)
        xs = [1e200 * x.double() for x in updates(5, model)]
        assert strategy.aggregate_train(1, answers(strategy, xs, L1Sign(), model=model))[0] is None
        assert strategy.reports[-1].skipped is not None and len(strategy.reports[-1].trimmed) == 5
