"""What `Filter.reach` promises, against colluders that were made to break it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

from benchmarks.colluding_vectors import CROWDS, SHAPES, Colluder, rows_of
from benchmarks.fuzz_filters import least, outcome, play
from benchmarks.parts.filters import CHAINS
from flwr_robustcomp.filters import (
    FILTERS,
    Bucketing,
    CentredClipping,
    Filter,
    GeometricMedian,
    Length,
    MultiKrum,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    Spectral,
    Vectors,
    chain,
    reach_of,
)

lengths = st.one_of(
    st.floats(0.3, 5.0),
    st.integers(-60, 60).map(lambda exponent: 10.0**exponent),
    st.sampled_from([1.0, 1 + 1e-12, math.sqrt(2), 1 + math.sqrt(2), 2.0, 99.0, 101.0]),
)
colluders = st.builds(Colluder, st.sampled_from(SHAPES), lengths, st.sampled_from([-1, 1]))


@pytest.mark.parametrize("name", CHAINS)
def test_no_minority_moves_the_outcome_farther_than_promised(name: str) -> None:
    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(
        crowd=st.sampled_from(CROWDS),
        trim=st.integers(1, 9),
        more=st.integers(0, 6),
        d=st.integers(1, 40),
        group=st.lists(colluders, min_size=1, max_size=9),
        scale=st.sampled_from([1.0, 1e-80, 1e80]),
        seed=st.integers(0, 1000),
    )
    def search(crowd: str, trim: int, more: int, d: int, group: list[Colluder], scale: float, seed: int) -> None:
        filters, group = CHAINS[name](trim), group[:trim]
        m = max(5 * trim + 3, least(filters, trim)) + more
        rows = rows_of(crowd, m - len(group), d, group, seed, scale)
        length, promise = float(np.linalg.norm(outcome(filters, rows) / scale)), reach_of(filters, m)
        target(length / promise)
        assert math.isfinite(promise)
        assert length <= promise * (1 + 1e-9)

    search()


def test_the_search_can_fail() -> None:
    """A mean promises nothing; were it to, the first rod would show."""
    rows = rows_of("noise", 16, 20, [Colluder("rod", 1e30)] * 4, 0)
    assert float(np.linalg.norm(rows.mean(axis=0))) > 1e29
    assert not math.isfinite(reach_of([], 20))
    assert all(play(name, number, 1)[0] <= play(name, number, 1)[1] for number, name in enumerate(CHAINS))


@pytest.mark.parametrize("trim", [1, 4, 8])
@pytest.mark.parametrize("name", ["spectral", "spectral, fixed budget", "multi-krum", "norm+spectral"])
def test_one_huge_colluder_does_not_open_the_gate_for_the_others(name: str, trim: int) -> None:
    """The exit for equal vectors once compared with the length of a vector that had been dropped."""
    m = 4 * trim + 4
    group = [Colluder("rod", 1e30), *[Colluder("mean", 10.0)] * (trim - 1)]
    rows = rows_of("noise", m - trim, 1000, group, 0)
    assert float(np.linalg.norm(outcome(CHAINS[name](trim), rows))) <= 1.0


@pytest.mark.parametrize("colluding", [1, 8, 11])
@pytest.mark.parametrize("length", [1e3, 1e30, 1e60])
def test_the_geometric_median_withstands_any_minority_of_any_length(colluding: int, length: float) -> None:
    rows = rows_of("noise", 24 - colluding, 50, [Colluder("rod", length)] * colluding, 0)
    assert float(np.linalg.norm(outcome([GeometricMedian()], rows))) <= reach_of([GeometricMedian(colluding)], 24)


@pytest.mark.parametrize("rule", [Norm(4), Length(4), MultiKrum(4), Spectral(4), Spectral(4, slack=None)], ids=repr)
@given(exponents=st.lists(st.integers(6, 60), min_size=4, max_size=4), seed=st.integers(0, 50))
def test_by_how_much_a_vector_dwarfs_the_others_changes_nothing(rule: Filter, exponents: list[int], seed: int) -> None:
    """A dropped vector has no influence on what is kept, however long it is and wherever it points."""
    honest = rows_of("noise", 16, 200, [], seed)

    def kept(sizes: list[int], own_seed: int) -> list[int]:
        directions = np.random.default_rng(own_seed).standard_normal((4, 200))
        rows = np.concatenate([honest, directions * 10.0 ** np.array(sizes, np.float64)[:, None]])
        return np.flatnonzero(chain([rule], Vectors.of_gram(rows @ rows.T))).tolist()

    assert kept(exponents, seed) == kept([8, 8, 8, 8], seed + 1) == list(range(16))


def test_the_promise_of_a_chain_is_the_tightest_that_its_parts_allow() -> None:
    assert reach_of([Norm(3), NearestNeighborMixing(3), Bucketing(3)], 30) == 1.0  # no later filter makes a vector longer
    assert reach_of([NormClipping(3)], 30) == 1.0
    assert reach_of([Length(3), NearestNeighborMixing(3)], 30) == 100.0
    inner = GeometricMedian(3).reach(30, 3)
    assert reach_of([NearestNeighborMixing(3), GeometricMedian(3)], 30) == 3 * inner
    assert reach_of([Bucketing(3), GeometricMedian(3)], 30) == GeometricMedian(3).reach(15, 3)
    assert reach_of([Spectral(0)], 30) == 1.0  # nobody is Byzantine


@pytest.mark.parametrize(
    "rule", [Bucketing(3), NearestNeighborMixing(3), CentredClipping(3, radius=1.0), NormClipping(3, radius=1.0)], ids=repr
)
def test_filters_that_promise_nothing_say_so(rule: Filter) -> None:
    assert reach_of([rule], 30) == math.inf


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_a_promise_grows_with_the_colluders_and_shrinks_with_the_crowd(name: str) -> None:
    rule = FILTERS[name]()
    promises = [rule.reach(60, trim) for trim in (1, 3, 9, 18)]
    assert promises == sorted(promises)
    assert rule.reach(60, 9) >= rule.reach(120, 9)


def test_a_chain_that_may_be_left_with_too_few_promises_what_holds_when_it_is_not() -> None:
    assert reach_of([Length(4), Spectral(4)], 12) == Spectral(4).reach(11, 4)
    assert reach_of([Length(16), NearestNeighborMixing(16)], 40) == 100.0
