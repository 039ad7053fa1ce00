"""Each filter's Gram-matrix form against its dense definition, written out on the coordinates."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import (
    AdaptiveClipping,
    Bucketing,
    CentredClipping,
    GeometricMedian,
    MultiKrum,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    chain,
)
from flwr_robustcomp.randomness import generator
from tests.filters.test_filter_contract import of, vectors

M, D, F = 25, 60, 4


@pytest.fixture
def x() -> np.ndarray:
    rows = vectors(M, D) + 0.5
    rows[:F] = -3.0 + 0.1 * vectors(F, D, seed=9)
    return rows


def test_norm(x: np.ndarray) -> None:
    kept = np.argsort(np.linalg.norm(x, axis=1))[: M - F]
    assert np.allclose(chain([Norm(F)], of(x)) @ x, x[kept].mean(axis=0))


def test_norm_clipping(x: np.ndarray) -> None:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    assert np.allclose(chain([NormClipping(0, radius=2.0)], of(x)) @ x, (x * np.minimum(1, 2.0 / norms)).mean(axis=0))
    standard = np.sort(norms.ravel())[M - F - 1]
    assert np.allclose(chain([NormClipping(F)], of(x)) @ x, (x * np.minimum(1, standard / norms)).mean(axis=0))


@pytest.mark.parametrize(("quantile", "rank"), [(0.5, 13), (1.0, 25), (0.01, 1), (0.84, 21), (0.85, 22)])
def test_norm_clipping_at_a_quantile(x: np.ndarray, quantile: float, rank: int) -> None:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    radius = sorted(norms.ravel())[rank - 1]
    assert np.allclose(chain([NormClipping(F, quantile=quantile)], of(x)) @ x, (x * np.minimum(1, radius / norms)).mean(axis=0))
    assert NormClipping(quantile=quantile).longest(M, F) == (1.0 if rank <= M - F else math.inf)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"quantile": 0.0}, r"quantile must be in \(0, 1\], or None, got 0.0"),
        ({"quantile": 1.1}, r"quantile must be in \(0, 1\], or None, got 1.1"),
        ({"quantile": math.nan}, r"quantile must be in \(0, 1\], or None, got nan"),
        ({"quantile": 0.5, "radius": 1.0}, "quantile must be None where a radius is given, got 0.5"),
    ],
)
def test_quantiles_out_of_range_are_refused(options: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        NormClipping(**options)


def test_adaptive_clipping(x: np.ndarray) -> None:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    clipped = math.floor(Fraction(2 * F, M) * (M - F))
    assert clipped == 6
    radius = sorted(norms.ravel(), reverse=True)[clipped]
    assert np.allclose(chain([AdaptiveClipping(F)], of(x)) @ x, (x * np.minimum(1, radius / norms)).mean(axis=0))


def test_adaptive_clipping_shortens_at_least_as_many_as_may_lie() -> None:
    for m in range(1, 60):
        for trim in range((m + 1) // 2):
            scales = np.diag(AdaptiveClipping().combine(of(np.diag(np.arange(1.0, m + 1))), trim))
            assert trim <= (scales < 1).sum() <= m / 2
    assert AdaptiveClipping().longest(8, 4) == math.inf


def test_multi_krum(x: np.ndarray) -> None:
    scores = []
    for i in range(M):
        distances = sorted(float(np.square(x[i] - x[j]).sum()) for j in range(M) if j != i)
        scores.append(sum(distances[: M - F - 2]))
    kept = np.argsort(scores)[: M - F]
    assert set(kept) == set(range(F, M))
    assert np.allclose(chain([MultiKrum(F)], of(x)) @ x, x[kept].mean(axis=0))


def test_nearest_neighbor_mixing(x: np.ndarray) -> None:
    mixed = np.stack([x[np.argsort(np.linalg.norm(x - row, axis=1))[: M - F]].mean(axis=0) for row in x])
    assert np.allclose(NearestNeighborMixing().combine(of(x), F) @ x, mixed)


def test_bucketing(x: np.ndarray) -> None:
    order = generator(0, "bucketing").permutation(M)
    buckets = [x[order[i : i + 2]].mean(axis=0) for i in range(0, M, 2)]
    assert np.allclose(Bucketing().combine(of(x), 0) @ x, np.stack(buckets))


def test_geometric_median_has_the_smallest_summed_distance(x: np.ndarray) -> None:
    z = chain([GeometricMedian(iterations=200)], of(x)) @ x

    def total(point: np.ndarray) -> float:
        return float(np.linalg.norm(x - point, axis=1).sum())

    rng = np.random.default_rng(1)
    assert all(total(z) <= total(z + 1e-3 * rng.standard_normal(D)) for _ in range(50))
    assert total(z) < total(x.mean(axis=0))


def test_centred_clipping(x: np.ndarray) -> None:
    v = np.zeros(D)
    for _ in range(5):
        offsets = x - v
        v = v + (offsets * np.minimum(1, 4.0 / np.linalg.norm(offsets, axis=1, keepdims=True))).mean(axis=0)
    assert np.allclose(chain([CentredClipping(0, iterations=5, radius=4.0)], of(x)) @ x, v)
