"""Filters on packed replies against the same filters on what they decompress to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error, Message

from benchmarks.parts.filters import options_of
from benchmarks.parts.vectors import known
from flwr_robustcomp.compressors import ByShape, Compressor, Drive, Identity, L1Sign, SparseTernary, TernGrad, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import FILTERS, Filter, NormClipping, Spectral, Vectors, chain, chain_rows
from flwr_robustcomp.strategies import Policy, RobustCompressed, rule_checks
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
    rooted = {"root": root_of(XS[0])} if rule.trusts_root else {}
    options = {"step_size": 0.5, **SAMPLING, **options_of([rule]), **rooted}
    strategy = RobustCompressed(compressor=compressor, filters=[rule], granularity=granularity, **options)
    got = moved(strategy, answers(strategy, XS, compressor, granularity=granularity)).double()
    if granularity == "model":
        dense = np.stack([q(x, compressor, i).double().numpy() for i, x in enumerate(XS)])
        assert np.allclose(got.numpy(), 0.5 * (chain([rule], known(dense, XS[0].double().numpy())) @ dense), atol=1e-5)
    assert bool(torch.isfinite(got).all()) and float(got.abs().max()) > 0


@pytest.mark.parametrize("sketch", [None, 64])
def test_signs_are_counted_whole_whatever_the_sketch_shows(sketch: int | None) -> None:
    model = {"w": torch.zeros(1000)}
    xs, compressor = [gaussian(1000, seed=i) + 0.7 for i in range(11)], L1Sign()
    xs[:3] = [-x for x in xs[:3]]
    strategy = RobustCompressed(compressor=compressor, filters="sign-guard", sketch=sketch, seed=1, **SAMPLING)
    strategy.aggregate_train(1, answers(strategy, xs, compressor, model=model))
    assert set(strategy.reports[-1].trimmed) >= {1000, 1001, 1002}
    assert len(strategy.reports[-1].kept) >= 6


def test_what_a_strategy_cannot_show_is_refused_by_name() -> None:
    class Blind(RobustCompressed):
        def shows(self) -> tuple[str, ...]:
            return ()

    with pytest.raises(ConfigurationError, match=r"filters must be one that works without signs, .* got 'sign-guard'"):
        Blind(compressor=L1Sign(), filters="sign-guard")


def test_a_filter_of_signs_behind_a_mixture_is_refused_before_the_run() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=2, filters="nearest-neighbor-mixing+sign-guard")
    with pytest.raises(ConfigurationError, match="signs must be known where a filter looks at them"):
        strategy.check_nodes(11)


@pytest.mark.parametrize(("first", "nodes", "left"), [("flame", 10, 6), ("over-time:flame", 10, 6), ("norm", 8, 6)])
def test_a_chain_that_leaves_too_few_in_every_round_is_refused_before_the_run(first: str, nodes: int, left: int) -> None:
    memory = 0.5 if first.startswith("over-time") else None
    strategy = RobustCompressed(compressor=L1Sign(), trim=2, filters=f"{first}+spectral", memory=memory)
    with pytest.raises(ConfigurationError, match=f"'spectral' with trim 2 needs at least 7 updates, got {left}"):
        strategy.check_nodes(nodes)
    RobustCompressed(compressor=L1Sign(), trim=2, filters="flame+spectral").check_nodes(12)
    RobustCompressed(compressor=L1Sign(), trim=2, filters="directions+spectral").check_nodes(7)  # one budget


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
        ({"filters": "spectra"}, "filters must be one of adaptive-clipping, .*, got 'spectra'"),
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


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [L1Sign(), Identity()], ids=repr)
def test_a_rule_is_applied_to_what_filters_leave(compressor: Compressor, granularity: Any) -> None:
    filters = [NormClipping(2), Spectral(2, slack=None)]
    strategy = RobustCompressed(
        compressor=compressor, trim=2, filters=filters, rule="trimmed-mean", granularity=granularity, **SAMPLING
    )
    got = moved(strategy, answers(strategy, XS, compressor, granularity=granularity)).double().numpy()
    if granularity == "model":
        dense = np.stack([q(x, compressor, i).double().numpy() for i, x in enumerate(XS)])
        left = chain_rows(filters, Vectors.of_gram(dense @ dense.T)) @ dense
        np.testing.assert_allclose(got, np.sort(left, axis=0)[2:-2].mean(axis=0), atol=1e-5)
    report = strategy.reports[-1]
    assert report.survived.keys() == {*report.kept, *report.trimmed}
    assert all(report.survived[node] == 0 for node in report.trimmed)
    assert all(0 < report.survived[node] < 1 for node in report.kept)
    assert report.metrics()["robustcomp.survived"] == list(report.survived.values())


def test_without_a_rule_clipping_is_what_does_not_survive() -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=1, filters="norm-clipping", **SAMPLING)
    moved(strategy, answers(strategy, XS, Identity()))
    norms = {1000 + i: float(torch.linalg.vector_norm(x)) for i, x in enumerate(XS)}
    radius = sorted(norms.values())[-2]
    assert strategy.reports[-1].survived == pytest.approx({node: min(1, radius / norm) for node, norm in norms.items()})


@pytest.mark.parametrize("filters", ["bucketing", "geometric-median", "nearest-neighbor-mixing", "caf"])
def test_what_nothing_was_taken_from_survives_whole_however_few_rows_there_are(filters: str) -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=0, filters=filters, seed=0, **SAMPLING)
    alike = [torch.ones_like(XS[0])] * 10
    moved(strategy, answers(strategy, alike, Identity()))
    assert list(strategy.reports[-1].survived.values()) == pytest.approx([1.0] * 10)


@pytest.mark.parametrize(
    ("rule", "trim", "warned"), [("trimmed-mean", 0, 1), ("trimmed-mean", 0.0, 1), ("median", 0, 0), ("mean", 0, 0)]
)
def test_a_rule_that_cuts_nothing_is_told_once(rule: str, trim: float, warned: int, caplog: pytest.LogCaptureFixture) -> None:
    rule_checks._warn.cache_clear()
    for _ in range(3):
        RobustCompressed(compressor=Drive(), filters="", rule=rule, trim=trim, **SAMPLING)
    assert caplog.text.count(f"the rule 'trimmed-mean' with trim={trim!r} cuts nothing, and is the mean") == warned


def test_a_rule_alone_needs_no_filter() -> None:
    strategy = RobustCompressed(compressor=Drive(), trim=2, filters="", rule="median", **SAMPLING)
    moved(strategy, answers(strategy, XS, Drive()))
    shares = strategy.reports[-1].survived.values()
    assert sum(share > 0 for share in shares) > 2
    assert max(shares) < 0.5  # of eleven values at a coordinate one is kept
    assert RobustCompressed(compressor=Drive(), filters=(), **SAMPLING).filters == ()


@pytest.mark.parametrize("sparse", [TopK(k=3), ByShape(matrices=TopK(k=1), vectors=Identity())], ids=repr)
def test_a_rule_that_a_compressor_cannot_serve_is_refused_by_name(sparse: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"rule must be mean with top-k, .*got 'median'"):
        RobustCompressed(compressor=sparse, granularity="array", rule="median")


def test_a_rule_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="rule must be one of mean, median, trimmed-mean"):
        RobustCompressed(compressor=L1Sign(), rule="trimed-mean")


def test_a_cut_that_leaves_nothing_is_refused_before_the_first_round_and_skips_a_later_one() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=6, filters="", rule="trimmed-mean", **SAMPLING)
    with pytest.raises(ConfigurationError, match="trim = 6 needs at least 13 nodes per round"):
        ask(strategy, 11)
    strategy = RobustCompressed(compressor=L1Sign(), trim=3, filters="", rule="trimmed-mean", **SAMPLING)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, XS, L1Sign())[:6])
    assert arrays is None
    assert strategy.reports[-1].skipped == "'trimmed-mean' with trim 3 needs at least 7 updates, got 6"


def test_a_rule_by_coordinates_promises_less_length_than_a_mean_of_anything() -> None:
    chain = {"filters": "norm-clipping+directions+spectral", "trim": 4, "length_screen": 5.0}
    mean, trimmed = (RobustCompressed(compressor=L1Sign(), rule=rule, **chain) for rule in ("mean", "trimmed-mean"))  # type: ignore[arg-type]
    assert mean.reach(20) == 1.0
    assert trimmed.reach(20) == pytest.approx(16 / 8)  # of 16 that are left at least, 8 are cut
    alone = RobustCompressed(compressor=L1Sign(), filters=(), rule="median", trim=4, length_screen=None)
    assert alone.reach(20) == pytest.approx(16**0.5)  # of 16 honest ones


@pytest.mark.parametrize("filters", ["caf", "norm-clipping+geometric-median"])
def test_a_rule_that_has_nothing_to_compare_is_refused(filters: str) -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=2, filters=filters, rule="median", **SAMPLING)
    with pytest.raises(ConfigurationError, match="rule must be mean behind filters that leave a single vector, got 'median'"):
        strategy.check_nodes(11)


def test_names_of_filters_may_have_room_between_them() -> None:
    spaced = RobustCompressed(compressor=L1Sign(), filters="norm + spectral", trim=1)
    assert spaced.filters == RobustCompressed(compressor=L1Sign(), filters="norm+spectral", trim=1).filters
