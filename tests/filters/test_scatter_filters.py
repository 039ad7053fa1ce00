"""Filters by the direction of largest scatter, DnC and CAF, against their dense definitions, and what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import CAF, DnC, NormClipping, chain, reach_of
from tests.filters.test_filter_contract import of, vectors

crowds = given(
    m=st.integers(7, 25), d=st.integers(2, 30), trim=st.integers(1, 3), offset=st.floats(0, 9), seed=st.integers(0, 10_000)
)


def _crowd(m: int, d: int, trim: int, offset: float, seed: int) -> np.ndarray:
    """Return vectors of different lengths, the first of which have moved away."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, d)) * rng.uniform(0.5, 2, (m, 1)) + 0.3
    x[:trim] += offset
    return x


def _projections(x: np.ndarray, mean: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the largest eigenvalue of the weighted covariance, (d, d), and the projections on its eigenvector."""
    covariance = np.zeros((x.shape[1], x.shape[1]))
    for c, row in zip(weights, x, strict=True):
        covariance += c * np.outer(row - mean, row - mean) / weights.sum()
    values, axes = np.linalg.eigh(covariance)
    projections: np.ndarray = (x - mean) @ axes[:, -1]
    return float(values[-1]), projections


def _dnc(x: np.ndarray, dropped: int, passes: int) -> np.ndarray:
    for _ in range(passes):
        _, _, right = np.linalg.svd(x - x.mean(axis=0))
        scores = np.square((x - x.mean(axis=0)) @ right[0])
        x = x[np.sort(np.argsort(scores)[: len(x) - dropped])]
    return np.asarray(x.mean(axis=0))


def _caf(x: np.ndarray, trim: int) -> np.ndarray:
    weights = np.ones(len(x))
    found: list[tuple[float, np.ndarray]] = []
    while weights.sum() > len(x) - 2 * trim:
        mean = weights @ x / weights.sum()
        value, projections = _projections(x, mean, weights)
        found.append((value, mean))
        taus = np.where(weights > 0, np.square(projections), 0.0)
        weights = weights * (1 - taus / taus.max())
    return min(found, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize(("factor", "passes"), [(1.0, 1), (1.0, 2), (1.5, 1), (0.4, 3)])
@crowds
def test_dnc_is_the_dense_one(factor: float, passes: int, m: int, d: int, trim: int, offset: float, seed: int) -> None:
    x = _crowd(m, d, trim, offset, seed)
    rule, dropped = DnC(trim, factor, passes), math.ceil(factor * trim)
    if m < rule.least(trim):
        return
    assert rule.left(m, trim) == m - passes * dropped
    assert np.allclose(chain([rule], of(x)) @ x, _dnc(x, dropped, passes))


@crowds
def test_caf_is_the_dense_one(m: int, d: int, trim: int, offset: float, seed: int) -> None:
    x = _crowd(m, d, trim, offset, seed)
    assert np.allclose(chain([CAF(trim)], of(x)) @ x, _caf(x, trim))


def test_caf_without_liars_is_the_mean() -> None:
    assert np.allclose(chain([CAF(0)], of(vectors(9, 5))), 1 / 9)


@pytest.mark.parametrize("length", [1e2, 1e20, 1e60])
def test_a_vector_without_weight_does_not_hold_up_the_others(length: float) -> None:
    x = 0.1 * vectors(20, 40) + 1.0
    x[:4] = length * vectors(4, 40, 1)
    weights = chain([CAF(4)], of(x))
    assert not weights[:4].any()
    assert np.linalg.norm(weights @ x - x[4:].mean(axis=0)) < 0.2


@pytest.mark.parametrize("length", [1e2, 1e20, 1e60])
def test_two_giants_of_one_length_leave_nothing_behind(length: float) -> None:
    """The first to go takes all but a rounding error of the other's weight with it, and that times its length is a lot."""
    x = 0.1 * vectors(20, 2) + 1.0
    x[0], x[1] = length * np.array([1.0, 0.1]), length * np.array([0.1, 1.0])
    weights = chain([CAF(4)], of(x))
    assert not weights[:2].any()


@pytest.mark.parametrize("seed", range(5))
def test_caf_has_a_smaller_error_than_the_mean_where_colluders_agree(seed: int) -> None:
    x = vectors(30, 200, seed) + 0.2
    x[:6] -= 1.0
    honest = x[6:].mean(axis=0)
    assert np.linalg.norm(chain([CAF(6)], of(x)) @ x - honest) < 0.5 * np.linalg.norm(x.mean(axis=0) - honest)


def test_one_pass_of_dnc_sees_one_of_two_giants_and_as_many_passes_as_giants_see_both() -> None:
    x = vectors(20, 40)
    axes = np.eye(40)
    x[0], x[1] = 1e30 * axes[0], 5e28 * axes[0] + 1e20 * axes[1]  # at the mean along the first axis
    assert chain([DnC(2)], of(x))[1] > 0
    assert not chain([DnC(2, iterations=2)], of(x))[:2].any()
    assert reach_of([DnC(2)], 20) == math.inf
    assert reach_of([NormClipping(2), DnC(2)], 20) == 1.0


def test_dnc_promises_something_where_every_pass_can_find_one() -> None:
    assert 1 < reach_of([DnC(1)], 20) < reach_of([DnC(2, iterations=2)], 20) < reach_of([DnC(3, iterations=3)], 20) < math.inf
    assert reach_of([DnC(3, iterations=2)], 20) == math.inf
    assert DnC(iterations=3).reach(13, 3) < math.inf
    assert DnC(iterations=3).reach(12, 3) == math.inf  # three are left, and all of them may be Byzantine


def test_dnc_drops_nobody_where_all_are_the_same_or_nobody_is_expected_to_lie() -> None:
    assert (chain([DnC(3)], of(np.tile(vectors(1, 30), (10, 1)))) > 0).all()
    assert (chain([DnC(0)], of(vectors(10, 30))) > 0).all()


def test_caf_promises_a_bound_below_half() -> None:
    assert reach_of([CAF(4)], 20) == pytest.approx(1 + math.sqrt(32 / 12) * (0.5 + math.sqrt(20 / 12)))
    assert CAF().reach(8, 4) == math.inf


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"factor": 0.0}, "factor must be positive and finite, got 0.0"),
        ({"factor": math.inf}, "factor must be positive and finite, got inf"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"iterations": 1.5}, "iterations must be at least 1, got 1.5"),
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        DnC(**options)


def test_dnc_that_would_leave_nobody_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'dnc' with trim 3 needs at least 13 updates, got 12"):
        chain([DnC(3, factor=2.0, iterations=2)], of(vectors(12, 5)))
