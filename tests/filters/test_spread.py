"""The spread of a round's vectors: against its definition in coordinates, and only where it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.filters import (
    Directions,
    Filter,
    Matrix,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    Spectral,
    Vectors,
    chain,
    spread_of,
    spread_seen,
)
from flwr_robustcomp.filters.spread import eigenvalue_ratio

sizes = st.tuples(st.integers(4, 12), st.integers(1, 30), st.integers(0, 4), st.integers(0, 10**6))


def _dense(x: Matrix, trim: int) -> float:
    values = np.sort(np.square(np.linalg.svd(x - x.mean(axis=0), compute_uv=False)))[::-1]
    return float(values[0] / values[trim + 1])


@given(sizes)
def test_it_is_what_the_coordinates_say(size: tuple[int, int, int, int]) -> None:
    m, d, trim, seed = size
    x = np.random.default_rng(seed).normal(0.3, 1.0, (m, d))
    spread = spread_of(Vectors.of_gram(x @ x.T), trim)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    if m >= trim + 3 and d >= trim + 2:
        assert spread.ratio == pytest.approx(_dense(x, trim), rel=1e-6)
        if d > trim + 2:  # unit vectors of a line have two values
            assert spread.direction_ratio == pytest.approx(_dense(units, trim), rel=1e-6)
    else:
        assert spread.ratio is None
    pairs = (units @ units.T)[np.triu_indices(m, 1)]
    assert spread.cosines == pytest.approx(np.quantile(pairs, [0.05, 0.5, 0.95]).clip(-1, 1), abs=1e-9)


@given(sizes)
def test_a_filter_acts_exactly_where_its_ratio_is_above_its_slack(size: tuple[int, int, int, int]) -> None:
    m, d, trim, seed = size
    m, trim = m + 2 * trim + 3, max(1, trim)
    x = np.random.default_rng(seed).normal(0.3, 1.0, (m, d + trim + 2)) * np.geomspace(1, 9, d + trim + 2)
    vectors = Vectors.of_gram(x @ x.T)
    spread = spread_of(vectors, trim)
    assert spread.ratio is not None and spread.direction_ratio is not None
    assert bool((chain([Spectral(trim)], vectors) == 0).any()) == (spread.ratio > 3)
    assert bool((chain([Directions(trim)], vectors) == 0).any()) == (spread.direction_ratio > 3)


def test_length_alone_shows_in_one_ratio_and_direction_in_the_other() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 400))
    plain = spread_of(Vectors.of_gram(x @ x.T), 5)
    x[0] *= 5
    long = spread_of(Vectors.of_gram(x @ x.T), 5)
    assert long.direction_ratio == pytest.approx(plain.direction_ratio)
    assert long.ratio is not None and plain.ratio is not None and long.ratio > 5 * plain.ratio
    x[0] /= 5
    x[:5] = x[:1] + 0.3 * x[:5]
    alike = spread_of(Vectors.of_gram(x @ x.T), 5)
    assert alike.direction_ratio is not None and plain.direction_ratio is not None
    assert alike.direction_ratio > 1.5 * plain.direction_ratio


def test_zeros_and_equal_vectors_have_no_ratio() -> None:
    zero = spread_of(Vectors.of_gram(np.zeros((8, 8))), 1)
    assert (zero.ratio, zero.direction_ratio, zero.cosines) == (None, None, None)
    same = spread_of(Vectors.of_gram(np.ones((8, 8))), 1)
    assert (same.ratio, same.direction_ratio, same.cosines) == (None, None, (1.0, 1.0, 1.0))
    assert eigenvalue_ratio(np.eye(3), 1) is None
    assert str(zero) == "spread ? and ? (of directions), cosines ?"


def _counted(x: Matrix) -> tuple[Vectors, list[int]]:
    calls: list[int] = []

    def gram() -> Matrix:
        calls.append(1)
        return np.asarray(x @ x.T)

    return Vectors(np.linalg.norm(x, axis=1), gram), calls


@pytest.mark.parametrize(
    ("filters", "computed"),
    [([Norm(2)], 0), ([Spectral(2)], 1), ([Norm(1), Spectral(1)], 1), ([NormClipping(2), Spectral(2)], 1)],
)
def test_inner_products_are_never_computed_for_it(filters: Sequence[Filter], computed: int) -> None:
    vectors, calls = _counted(np.random.default_rng(0).standard_normal((12, 40)))
    chain(filters, vectors)
    spread = spread_seen(filters, vectors, 2)
    assert len(calls) == computed
    assert (spread is None) == (computed == 0)


def test_what_comes_before_the_filter_that_drops_has_done_its_work() -> None:
    x = np.random.default_rng(0).standard_normal((12, 40))
    x[0] *= 50
    clipped = x / np.maximum(1, np.linalg.norm(x, axis=1, keepdims=True) / np.sort(np.linalg.norm(x, axis=1))[-3])
    vectors, _ = _counted(x)
    assert vectors.gram is not None
    seen = spread_seen([NormClipping(2), Directions(2), Spectral(2)], vectors, 2)
    assert seen is not None and seen.ratio == pytest.approx(_dense(clipped, 2))
    mixed = spread_seen([NearestNeighborMixing(2), Spectral(2)], vectors, 2)
    rows = NearestNeighborMixing(2).combine(vectors, 2) @ x
    assert mixed is not None and mixed.ratio == pytest.approx(_dense(rows, 2))
