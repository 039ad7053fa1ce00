"""The screen on length before every filter: a hundred times the median norm, at any scale that a float64 model has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.parts.filters import options_of
from flwr_robustcomp.compressors import Compressor, Identity, L1Sign, TopK
from flwr_robustcomp.compressors.norms import vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import FILTERS, Bucketing, NearestNeighborMixing
from flwr_robustcomp.settings import Settings
from flwr_robustcomp.strategies import ByzFL, NormThreshold, RobustCompressed
from flwr_robustcomp.strategies.policy import Policy
from tests.optional import needs_byzfl
from tests.strategies.rounds import SAMPLING, answers, q

SCREENED = sorted(name for name, rule in FILTERS.items() if not rule.trusts_root)
D, HONEST, LIARS = 30, 9, 4
MODEL = {"w": torch.zeros(D, dtype=torch.float64)}


def round_of(strategy: Any, compressor: Compressor, scale: float, lengths: list[float], seed: int) -> tuple[float, float]:
    """Return how long the step of a round is, and the longest honest update."""
    rng = np.random.default_rng(seed)
    honest = [torch.from_numpy(rng.standard_normal(D) * rng.uniform(0.5, 2)) * scale for _ in range(HONEST)]
    rod = rng.standard_normal(D)
    with np.errstate(over="ignore"):
        liars = [torch.from_numpy(np.clip(rod * length * scale, -1e307, 1e307)) for length in lengths]
    strategy.aggregate_train(1, answers(strategy, [*honest, *liars], compressor, model=MODEL))
    longest = max(vector_norm(q(x, compressor, i), 2) for i, x in enumerate(honest))
    return strategy.reports[-1].step or 0.0, longest


@pytest.mark.parametrize("filters", [*SCREENED, "nearest-neighbor-mixing+geometric-median", "norm+norm-clipping"])
def test_no_update_beyond_the_screen_moves_the_model(filters: str) -> None:
    @settings(max_examples=20)
    @given(
        compressor=st.sampled_from([Identity(), L1Sign(), TopK(ratio=0.2)]),
        exponent=st.integers(-300, 300),
        lengths=st.lists(st.integers(-100, 600).map(lambda e: 10.0 ** min(e, 300)), min_size=LIARS, max_size=LIARS),
        seed=st.integers(0, 100),
    )
    def search(compressor: Compressor, exponent: int, lengths: list[float], seed: int) -> None:
        options = options_of([FILTERS[name]() for name in filters.split("+")])
        strategy = RobustCompressed(compressor=compressor, trim=LIARS, filters=filters, **SAMPLING, **options)
        step, longest = round_of(strategy, compressor, 10.0**exponent, lengths, seed)
        assert step <= 100 * longest * (1 + 1e-9)
        if 1e-140 < longest < 1e140:
            assert step <= strategy.reach(HONEST + LIARS) * longest * (1 + 1e-9)

    search()


@pytest.mark.parametrize("exponent", [-300, -170, 0, 140])
def test_honest_rounds_go_on_at_any_scale(exponent: int) -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=LIARS, filters="multi-krum", **SAMPLING)
    step, longest = round_of(strategy, Identity(), 10.0**exponent, [1e9] * LIARS, 0)
    assert 0 < step <= longest
    assert set(strategy.reports[-1].trimmed) == {1000 + HONEST + i for i in range(LIARS)}


def test_nobody_within_the_screen_is_dropped_by_it() -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=LIARS, filters=[], **SAMPLING)
    round_of(strategy, Identity(), 1.0, [20.0] * LIARS, 0)
    assert strategy.reports[-1].trimmed == {}
    round_of(strategy, Identity(), 1.0, [500.0] * LIARS, 0)
    assert len(strategy.reports[-1].trimmed) == LIARS


def test_what_it_drops_is_taken_off_the_trim_also_where_that_is_a_fraction() -> None:
    for trim in (4, 0.3):
        strategy = RobustCompressed(compressor=Identity(), trim=trim, filters="norm", **SAMPLING)
        round_of(strategy, Identity(), 1.0, [1e6, 1e6, 1.0, 1.0], 0)
        assert len(strategy.reports[-1].trimmed) == 4


def test_a_screened_update_counts_for_the_quorum_as_any_trimmed_one() -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=LIARS, filters="norm", policy=Policy(quorum=1.0), **SAMPLING)
    step, _ = round_of(strategy, Identity(), 1.0, [1e30] * LIARS, 0)
    assert step > 0 and strategy.reports[-1].quorum


def test_a_round_that_filters_cannot_use_says_whom_the_screen_dropped() -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=3, filters="multi-krum", **SAMPLING)
    unit = torch.ones(D, dtype=torch.float64)
    replies = answers(strategy, [*[unit] * 9, 1e30 * unit], Identity(), model=MODEL)
    strategy.aggregate_train(1, replies[4:])  # of 6 that reply, 5 are left, and 3 - 1 to trim need 7
    report = strategy.reports[-1]
    assert report.skipped is not None and set(report.trimmed) == {1009} and len(report.norms) == 6


@pytest.mark.parametrize("filters", [[NearestNeighborMixing(4)], [Bucketing(4)]], ids=repr)
def test_where_most_send_nothing_the_filters_own_trim_counts(filters: list[Any]) -> None:
    """Four liars of twenty, twelve honest zeros: the median says nothing, and the strategy's own trim is not set."""
    strategy = RobustCompressed(compressor=Identity(), filters=filters, **SAMPLING)
    unit = torch.zeros(D, dtype=torch.float64)
    unit[0] = 1.0
    xs = [*[0 * unit] * 12, *[unit] * 4, *[1e30 * unit] * 4]
    strategy.aggregate_train(1, answers(strategy, xs, Identity(), model=MODEL))
    assert (strategy.reports[-1].step or 0.0) <= 100


def test_it_can_be_switched_off_and_then_a_plain_mean_falls() -> None:
    strategy = RobustCompressed(compressor=Identity(), trim=LIARS, filters=[Bucketing(LIARS)], length_screen=None, **SAMPLING)
    step, longest = round_of(strategy, Identity(), 1.0, [1e30], 0)
    assert step > 1e20 * longest
    assert math.isinf(strategy.reach(13)) and strategy.reports[-1].trimmed == {}


def test_a_run_config_switches_it_off_with_zero() -> None:
    table = {"robustcomp.compressor": "l1-sign", "robustcomp.strategy.name": "robust-compressed"}
    for written, kept in ((0, None), (50.0, 50.0)):
        strategy = Settings.from_run_config({**table, "robustcomp.strategy.length-screen": written}).make_strategy()
        assert isinstance(strategy, RobustCompressed) and strategy.length_screen == kept


def test_a_promise_is_made_only_for_rounds_that_the_filters_can_use() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=4)
    assert strategy.reach(20) == pytest.approx(3.43, abs=0.01)
    with pytest.raises(ConfigurationError, match="'spectral' with trim 4 needs at least 11 updates, got 10"):
        strategy.reach(10)
    assert RobustCompressed(compressor=L1Sign(), trim=4, sketch=640).reach(20) == 100.0  # lengths are exact, directions are not


@needs_byzfl
def test_byzfl_rules_have_it_too() -> None:
    strategy = ByzFL(compressor=Identity(), aggregator="Average", trim=LIARS, **SAMPLING)
    step, longest = round_of(strategy, Identity(), 1.0, [1e18] * LIARS, 0)
    assert step <= longest and len(strategy.reports[-1].trimmed) == LIARS


def test_norm_thresholding_needs_none() -> None:
    strategy = NormThreshold(compressor=Identity(), trim=LIARS, **SAMPLING)
    step, longest = round_of(strategy, Identity(), 1e-290, [1e100] * LIARS, 0)
    assert 0 < step <= longest


@pytest.mark.parametrize("strategy", [RobustCompressed, pytest.param(ByzFL, marks=needs_byzfl)])
@pytest.mark.parametrize("factor", [1.0, 0.5, -2.0, math.inf, math.nan, True, "none"])
def test_bad_factors_are_refused(strategy: Any, factor: float) -> None:
    with pytest.raises(ConfigurationError, match="length_screen must be above 1 and finite, or 0 for none"):
        strategy(compressor=L1Sign(), length_screen=factor)


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_norms_are_exact_where_squares_are_not(scale: float) -> None:
    x = torch.tensor([3.0, -4.0], dtype=torch.float64) * scale
    assert vector_norm(x, 2) == pytest.approx(5 * scale, rel=1e-9)
    assert vector_norm(torch.zeros(3, dtype=torch.float64), 2) == 0.0
