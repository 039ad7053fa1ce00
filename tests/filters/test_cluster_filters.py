"""Filters that trust the largest cluster, FLAME and SignGuard, against their dense definitions and scikit-learn's clusters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import (
    Flame,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    SignGuard,
    Vectors,
    chain,
    reach_of,
)
from flwr_robustcomp.filters.flame import majority_cluster
from flwr_robustcomp.filters.mean_shift import bandwidth_of, mean_shift
from tests.filters.test_filter_contract import of, vectors

crowds = given(
    m=st.integers(2, 25), d=st.integers(2, 30), liars=st.integers(0, 8), spread=st.floats(0, 3), seed=st.integers(0, 10_000)
)


def _crowd(m: int, d: int, liars: int, spread: float, seed: int) -> np.ndarray:
    """Return vectors about a common direction, of many lengths, the first of them reversed."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((m, d)) + rng.standard_normal(d)) * np.exp(rng.uniform(-spread, spread, m))[:, None]
    x[: min(liars, m // 2)] *= -1
    return x


def _cosine_distances(x: np.ndarray) -> np.ndarray:
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.array([[1.0 - sum(a * b) for b in units] for a in units])


def _lower_median(x: np.ndarray) -> float:
    return sorted(float(np.sqrt(sum(row * row))) for row in x)[(len(x) - 1) // 2]


def _shortened_mean(x: np.ndarray, kept: list[int], radius: float) -> np.ndarray:
    return np.asarray(np.mean([x[i] * min(1.0, radius / float(np.linalg.norm(x[i]))) for i in kept], axis=0))


def _component(near: np.ndarray, start: int) -> set[int]:
    found, new = {start}, {start}
    while new:
        new = {int(j) for i in new for j in np.flatnonzero(near[i])} - found
        found |= new
    return found


def _majority(distances: np.ndarray) -> list[int]:
    """Return the first component with a majority as the radius grows over all distances."""
    for radius in np.unique(distances):
        for start in range(len(distances)):
            found = _component(distances <= radius, start)
            if 2 * len(found) > len(distances):
                return sorted(found)
    raise AssertionError


@crowds
def test_flame_is_the_dense_one(m: int, d: int, liars: int, spread: float, seed: int) -> None:
    x = _crowd(m, d, liars, spread, seed)
    kept = _majority(_cosine_distances(x))
    assert np.allclose(chain([Flame()], of(x)) @ x, _shortened_mean(x, kept, _lower_median(x)))


@crowds
def test_its_clusters_are_those_of_hdbscan(m: int, d: int, liars: int, spread: float, seed: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    distances = _cosine_distances(_crowd(m, d, liars, spread, seed))
    distances = np.maximum((distances + distances.T) / 2, 0.0)
    np.fill_diagonal(distances, 0.0)
    theirs = cluster.HDBSCAN(
        min_cluster_size=m // 2 + 1, min_samples=1, allow_single_cluster=True, metric="precomputed", copy=True
    ).fit_predict(distances)
    assert majority_cluster(distances).tolist() == np.flatnonzero(theirs == 0).tolist()


def test_equal_distances_are_in_or_out_together_whatever_their_rounding() -> None:
    distances = np.full((6, 6), 0.5)
    distances[:3, :3] = 0.1
    for seed in range(20):
        noise = np.random.default_rng(seed).uniform(-1e-16, 1e-16, (6, 6))
        assert majority_cluster(distances + noise + noise.T).tolist() == list(range(6))
    distances[4:, :] = distances[:, 4:] = 0.9
    assert majority_cluster(distances).tolist() == [0, 1, 2, 3]
    assert majority_cluster(np.zeros((1, 1))).tolist() == [0]


def test_flame_lets_a_minority_against_the_others_go_and_shortens_a_long_one_with_them() -> None:
    x = 0.3 * vectors(15, 200) + 1.0
    x[:5] *= -1.0
    x[5] = 1e6  # in the midst of the others
    weights = chain([Flame()], of(x))
    kept = np.flatnonzero(weights)
    assert 8 <= kept.size <= 10 and set(kept) <= set(range(5, 15))  # it keeps little more than a majority
    assert np.linalg.norm(weights[5] * x[5]) == pytest.approx(_lower_median(x) / kept.size)


def test_a_zero_vector_has_no_direction() -> None:
    x = 0.3 * vectors(9, 50) + 1.0
    x[4] = 0.0
    assert of(x).cosines[4].tolist() == [0.0] * 9
    assert chain([Flame()], of(x))[4] == 0


def _shift(points: np.ndarray, bandwidth: float) -> list[int]:
    """Return clusters by mean shift, a point at a time, by definition."""
    rests = []
    for start in points:
        centre, before = start, None
        while before is None or not np.allclose(centre, before, rtol=0, atol=1e-14):
            centre, before = np.mean([p for p in points if np.linalg.norm(p - centre) <= bandwidth], axis=0), centre
        rests.append((sum(np.linalg.norm(p - centre) <= bandwidth for p in points), *centre))
    peaks: list[np.ndarray] = []
    for _, *centre in sorted(rests, reverse=True):
        if all(np.linalg.norm(np.array(centre) - peak) > bandwidth for peak in peaks):
            peaks.append(np.array(centre))
    return [int(np.argmin([np.linalg.norm(p - peak) for peak in peaks])) for p in points]


def _guarded(x: np.ndarray) -> np.ndarray:
    """Return the outcome of SignGuard on coordinates."""
    m, median = len(x), _lower_median(x)
    shares = np.array([[(row < 0).mean(), (row == 0).mean(), (row > 0).mean()] for row in x])
    reach = [sorted(np.linalg.norm(shares - own, axis=1))[max(1, m // 2) - 1] for own in shares]
    clusters = _shift(shares, float(np.mean(reach)) + 1e-12)
    largest = max(sorted(set(clusters)), key=clusters.count)
    plausible = [i for i in range(m) if 0.1 * median <= np.linalg.norm(x[i]) <= 3 * median]
    return _shortened_mean(x, [i for i in plausible if clusters[i] == largest] or plausible, median)


@crowds
def test_sign_guard_is_the_dense_one(m: int, d: int, liars: int, spread: float, seed: int) -> None:
    x = _crowd(m, d, liars, spread, seed)
    x[np.random.default_rng(seed).random(x.shape) < 0.2] = 0.0
    x[:, 0] = 1.0  # nobody is zero
    assert np.allclose(chain([SignGuard()], of(x)) @ x, _guarded(x))


@pytest.mark.parametrize("share", [0.2, 0.5])
@given(m=st.integers(2, 40), groups=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_mean_shift_is_that_of_scikit_learn(share: float, m: int, groups: int, seed: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((m, 3)) + 10.0 * rng.integers(0, groups, m)[:, None]
    bandwidth = bandwidth_of(points, share)
    if bandwidth == 0:
        return
    assert bandwidth == pytest.approx(cluster.estimate_bandwidth(points, quantile=share))
    # Theirs stops when a centre moves by less than a thousandth of the bandwidth; ours when it rests.
    theirs = cluster.MeanShift(bandwidth=bandwidth, max_iter=1000).fit_predict(points)
    assert mean_shift(points, bandwidth).tolist() == theirs.tolist()


def test_sign_guard_finds_reversed_signs_and_implausible_lengths() -> None:
    x = vectors(15, 400) + 0.7
    x[:4] *= -1.0
    x[4], x[5] = 10 * x[4], x[5] / 100
    assert np.flatnonzero(chain([SignGuard()], of(x))).tolist() == list(range(6, 15))
    assert np.flatnonzero(chain([SignGuard(upper=100, lower=0)], of(x))).tolist() == list(range(4, 15))


def test_where_no_vector_is_in_both_sets_the_plausible_ones_stay() -> None:
    lengths = np.array([0.001, 0.001, 1.0, 500.0, 500.0])[:, None]  # the largest cluster has no plausible length
    signs = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    assert chain([SignGuard()], of(lengths * signs)).tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_sign_guard_works_behind_filters_that_keep_signs_and_is_refused_behind_mixtures() -> None:
    x = vectors(15, 400) + 0.7
    x[:4] *= -1.0
    behind = chain([Norm(1), NormClipping(1), SignGuard()], of(x))
    assert not behind[:4].any() and (behind > 0).sum() >= 9
    with pytest.raises(ConfigurationError, match="signs must be known where a filter looks at them, got vectors without"):
        chain([NearestNeighborMixing(3), SignGuard()], of(x))
    with pytest.raises(ConfigurationError, match="signs must be known"):
        chain([SignGuard()], Vectors.of_gram(x @ x.T))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lower": -0.1}, r"lower must be in \[0, 1\], got -0.1"),
        ({"lower": 1.5}, r"lower must be in \[0, 1\], got 1.5"),
        ({"lower": math.nan}, r"lower must be in \[0, 1\], got nan"),
        ({"upper": 0.9}, "upper must be at least 1 and finite, got 0.9"),
        ({"upper": math.inf}, "upper must be at least 1 and finite, got inf"),
    ],
)
def test_bounds_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        SignGuard(**options)


def test_both_promise_what_clipping_does_and_nothing_for_half_of_the_vectors() -> None:
    for rule in (Flame(4), SignGuard(4)):
        assert reach_of([rule], 9) == 1.0
        assert rule.reach(8, 4) == math.inf
