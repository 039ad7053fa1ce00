"""Directions: what length hides, one budget with the filter after it, and no promise alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Directions, Filter, NormClipping, Spectral, Vectors, chain, fitted, reach_of
from flwr_robustcomp.filters.chains import own_budgets

Rows = npt.NDArray[np.float64]
RECIPE = (NormClipping, Directions, Spectral)


def _kept(filters: list[Filter], x: Rows) -> list[int]:
    return np.flatnonzero(chain(filters, Vectors.of_gram(x @ x.T))).tolist()


def _crowd(seed: int, m: int = 15, d: int = 60, spread: float = 2.0) -> Rows:
    """Honest vectors with independent directions about a common one, and lengths that differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((m, d)) + 0.5) * np.exp(rng.uniform(-spread, spread, m))[:, None]


@given(seed=st.integers(0, 10_000), scales=st.lists(st.floats(1e-3, 1e3), min_size=15, max_size=15))
def test_lengths_change_nothing(seed: int, scales: list[float]) -> None:
    x = _crowd(seed)
    x[:4] = -1.0
    assert _kept([Directions(4)], x) == _kept([Directions(4)], x * np.array(scales)[:, None])


def test_short_colluders_are_found_where_the_plain_filter_sees_long_honest_vectors_alone() -> None:
    found, hidden = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        colluders = (np.sign(rng.standard_normal(60)) + 0.1 * rng.standard_normal((4, 60))) * 0.5
        x = np.vstack([_crowd(seed), colluders])
        found += len(set(range(15, 19)) & set(_kept([Directions(4)], x))) <= 1  # a direction of one vector says nothing
        hidden += set(range(15, 19)) <= set(_kept([Spectral(4)], x))
    assert found >= 18 and hidden >= 10


@pytest.mark.parametrize("seed", range(5))
def test_honest_vectors_of_unlike_lengths_all_pass(seed: int) -> None:
    x = _crowd(seed, m=20)
    assert _kept([Directions(5)], x) == list(range(20))
    assert len(_kept([Spectral(5)], x)) < 20


def test_what_is_dropped_is_taken_off_the_trim_of_the_filter_after_it() -> None:
    x = np.vstack([_crowd(0), np.tile(0.5 * np.sign(np.random.default_rng(1).standard_normal(60)), (4, 1))])
    assert len(_kept([Directions(4), Spectral(4)], x)) == 15
    assert len(_kept([Directions(4), Spectral(4, slack=None)], x)) == 15  # a fixed budget that is spent already
    assert len(_kept([Spectral(4, slack=None)], x)) == 15
    assert [one.name for one in own_budgets([cls(4) for cls in RECIPE])] == ["norm-clipping", "directions"]
    assert len(own_budgets([Spectral(4), Spectral(4), Directions(4)])) == 3


@given(trim=st.floats(0.01, 0.49), m=st.integers(3, 40), seed=st.integers(0, 50))
def test_fitted_chains_work_on_as_many_as_they_are_fitted_to(trim: float, m: int, seed: int) -> None:
    filters = fitted([cls(trim) for cls in RECIPE], m)
    x = np.random.default_rng(seed).standard_normal((m, 7))
    x[: m // 3] = 9.0
    weights = chain(filters, Vectors.of_gram(x @ x.T))
    assert np.count_nonzero(weights) >= m - math.ceil(trim * m)


def test_the_recipe_needs_no_more_nodes_than_one_of_its_filters() -> None:
    for m in range(1, 30):
        assert fitted([cls(0.2) for cls in RECIPE], m)[-1].trim == fitted([Spectral(0.2)], m)[-1].trim


def test_it_promises_no_length_alone_and_that_of_clipping_behind_it() -> None:
    assert reach_of([Directions(4)], 20) == math.inf
    assert reach_of([Directions(4), Spectral(4)], 20) == math.inf
    assert reach_of([cls(4) for cls in RECIPE], 20) == 1.0


def test_zero_vectors_stay_zero() -> None:
    x = np.zeros((9, 4))
    assert _kept([Directions(3)], x) == list(range(9))
    x[:3] = np.eye(4)[0]
    assert set(range(3, 9)) <= set(_kept([Directions(3)], x))


@pytest.mark.parametrize("options", [{"slack": 1.0}, {"resume_slack": 0.5}, {"slack": math.inf}])
def test_bad_thresholds_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be above 1 and finite"):
        Directions(1, **options)
