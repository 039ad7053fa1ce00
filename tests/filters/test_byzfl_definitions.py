"""Each Gram-matrix form against ByzFL's dense one, which works on the coordinates and knows nothing of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.filters import (
    AdaptiveClipping,
    Bucketing,
    CentredClipping,
    Filter,
    GeometricMedian,
    MultiKrum,
    NearestNeighborMixing,
    NormClipping,
    chain,
)
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.strategies.byzfl import classes_of
from tests.filters.test_filter_contract import of
from tests.optional import needs_byzfl

pytestmark = needs_byzfl

sizes = given(m=st.integers(9, 30), d=st.integers(2, 60), f=st.integers(1, 3), seed=st.integers(0, 1000))


def theirs(name: str, x: np.ndarray, **parameters: Any) -> np.ndarray:
    """Return what ByzFL makes of the rows, shape (m, d), in double precision."""
    rules = {**classes_of("aggregators"), **classes_of("preaggregators")}
    return np.asarray(rules[name](**parameters)(x.copy()))


def ours(x: np.ndarray, *filters: Filter) -> np.ndarray:
    left: np.ndarray = chain(filters, of(x)) @ x
    return left


def rows(m: int, d: int, f: int, seed: int) -> np.ndarray:
    """Return m vectors of different lengths, f of which have moved away."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, d)) * rng.uniform(0.5, 2, (m, 1)) + 0.3
    x[:f] += 2.0
    return x


@sizes
def test_multi_krum_but_for_one_neighbour(m: int, d: int, f: int, seed: int) -> None:
    # Blanchard et al. 2017 add up the m - f - 2 smallest distances to others; ByzFL takes m - f - 1, those of m - f vectors
    # with the vector itself. So ours with f - 1 has the scores of theirs with f, and keeps one vector more: the next best.
    x = rows(m, d, f, seed)
    ours_kept = chain([MultiKrum(f - 1)], of(x)) > 0
    assert ours_kept.sum() == m - f + 1
    one_more = x[ours_kept].sum(axis=0) - (m - f) * theirs("MultiKrum", x, f=f)
    assert np.isclose(x[ours_kept], one_more, atol=1e-8).all(axis=1).sum() == 1
    assert np.isclose(x[ours_kept], theirs("Krum", x, f=f)).all(axis=1).sum() == 1  # the best of all is kept as well


@sizes
def test_multi_krum_keeps_the_same_where_colluders_stand_apart(m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    x[:f] += 1e3
    assert np.allclose(ours(x, MultiKrum(f)), theirs("MultiKrum", x, f=f))
    assert np.allclose(ours(x, MultiKrum(f)), x[f:].mean(axis=0))


@sizes
def test_nearest_neighbor_mixing(m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    assert np.allclose(NearestNeighborMixing().combine(of(x), f) @ x, theirs("NNM", x, f=f))


@sizes
@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_geometric_median(iterations: int, m: int, d: int, f: int, seed: int) -> None:
    # ByzFL starts from zero, ours from the mean of the vectors shortened to the median norm: the same for equally long vectors
    # with mean zero. Its nu is a distance, ours a share of the median distance to the start.
    x = rows(m, d, f, seed)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = np.concatenate([x, -x])
    smoothing = 0.9  # so large that nu matters
    nu = smoothing * float(np.median(np.linalg.norm(x, axis=1)))
    found = ours(x, GeometricMedian(iterations=iterations, smoothing=smoothing))
    assert np.allclose(found, theirs("GeometricMedian", x, nu=nu, T=iterations))


def test_geometric_median_in_the_end_starts_nowhere() -> None:
    x = rows(20, 10, 3, 0) + 5.0  # far from zero
    found = ours(x, GeometricMedian(iterations=500, smoothing=1e-6))
    assert np.allclose(found, theirs("GeometricMedian", x, nu=1e-6, T=500), rtol=1e-6)


@sizes
@pytest.mark.parametrize("iterations", [1, 5])
def test_centred_clipping(iterations: int, m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    radius = float(np.median(np.linalg.norm(x, axis=1)))
    found = ours(x, CentredClipping(iterations=iterations, radius=radius))
    assert np.allclose(found, theirs("CenteredClipping", x, L=iterations, tau=radius))


@sizes
def test_norm_clipping(m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    radius = float(np.median(np.linalg.norm(x, axis=1)))
    assert np.allclose(ours(x, NormClipping(radius=radius)), theirs("Clipping", x, c=radius).mean(axis=0))


@sizes
def test_adaptive_clipping(m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    assert np.allclose(AdaptiveClipping().combine(of(x), f) @ x, theirs("ARC", x, f=f))


@sizes
@pytest.mark.parametrize("size", [2, 3])
def test_bucketing_with_the_same_lot(size: int, m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    lot = generator(seed, "bucketing").permutation(m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy.random.permutation", lambda vectors: vectors[lot])
        wanted = theirs("Bucketing", x, s=size)
    assert np.allclose(Bucketing(size=size, seed=seed).combine(of(x), f) @ x, wanted)


@sizes
def test_chains(m: int, d: int, f: int, seed: int) -> None:
    x = rows(m, d, f, seed)
    mixed = theirs("NNM", x, f=f)
    radius = float(np.linalg.norm(mixed, axis=1).mean())
    wanted = theirs("CenteredClipping", mixed, L=3, tau=radius)
    assert np.allclose(ours(x, NearestNeighborMixing(f), CentredClipping(iterations=3, radius=radius)), wanted)
    clipped = theirs("ARC", x, f=f)
    wanted = theirs("NNM", clipped, f=f).mean(axis=0)
    assert np.allclose(ours(x, AdaptiveClipping(f), NearestNeighborMixing(f)), wanted)
