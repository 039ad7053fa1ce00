"""Over time: another filter on histories, its budget and its needs, and no promise of its own."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.parts.filters import SAMPLES
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import (
    Beside,
    Directions,
    Filter,
    FoolsGold,
    Length,
    MultiKrum,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    OverTime,
    Spectral,
    Vectors,
    chain,
    fitted,
    reach_of,
)
from flwr_robustcomp.filters.chains import own_budgets

Rows = npt.NDArray[np.float64]

INNER = [one for samples in SAMPLES.values() for one in samples if not one.looks_at]


def _of(x: Rows, sums: Rows) -> Vectors:
    return Vectors.of_gram(x @ x.T, Beside(history=lambda: sums @ sums.T))


def _rows(seed: int, m: int = 20, d: int = 30) -> Rows:
    return np.random.default_rng(seed).standard_normal((m, d))


@pytest.mark.parametrize("inner", INNER, ids=repr)
@given(seed=st.integers(0, 100))
def test_the_coefficients_are_those_of_the_histories(inner: Filter, seed: int) -> None:
    x, sums = _rows(seed), _rows(seed + 1)
    over = OverTime(inner.trim, type(inner)(**{**vars(inner), "trim": 0}))
    assert np.array_equal(chain([over], _of(x, sums)), chain([inner], Vectors.of_gram(sums @ sums.T)))


def test_colluders_that_no_round_shows_are_found_over_time() -> None:
    rng = np.random.default_rng(0)
    drift = rng.standard_normal(200)
    drift *= 0.45 * math.sqrt(200) / np.linalg.norm(drift)
    sums, alone = np.zeros((20, 200)), 0
    for _ in range(20):
        x = rng.standard_normal((20, 200))
        x[:4] = 0.9 * x[:4] + drift
        sums = 0.9 * sums + x
        alone += int((chain([Spectral(4)], _of(x, sums))[:4] == 0).sum())
    assert alone == 0
    assert np.flatnonzero(chain([OverTime(4)], _of(x, sums)) == 0).tolist() == [0, 1, 2, 3]


def test_it_follows_earlier_filters() -> None:
    x, sums = _rows(1), _rows(2)
    x[7] *= 30
    left = np.delete(np.arange(20), 7)
    expected = chain([MultiKrum(3)], Vectors.of_gram(sums[left] @ sums[left].T))
    assert np.allclose(chain([Norm(1), OverTime(3, MultiKrum())], _of(x, sums))[left], expected)
    assert np.allclose(
        chain([NormClipping(3), OverTime(3, MultiKrum())], _of(x, sums)) > 0,
        chain([OverTime(3, MultiKrum())], _of(x, sums)) > 0,
    )


def test_the_budget_is_shared_as_the_other_filter_shares_it() -> None:
    both: list[Filter] = [OverTime(3, Directions()), OverTime(3, Spectral())]
    assert [one.spends for one in both] == [True, False] and [one.shares for one in both] == [False, True]
    assert own_budgets(both) == both[:1]
    x, sums = _rows(3, 21, 60), _rows(4, 21, 60)
    sums[:3] = 5.0
    sums[3:6] = 2 * _rows(5, 1, 60)
    assert int((chain(both, _of(x, sums)) == 0).sum()) == 3
    names = [one.trim for one in fitted([OverTime(0.2, Directions()), OverTime(0.2)], 5)]
    assert names == [one.trim for one in fitted([Directions(0.2), Spectral(0.2)], 5)]


@given(
    trim=st.integers(1, 4),
    seed=st.integers(0, 300),
    length=st.sampled_from([0.5, 1.0, 3.0, 1e3, 1e30]),
    past=st.sampled_from(["alike", "alone", "hidden"]),
    chained=st.sampled_from(["clipped", "screened", "mixed", "then norm"]),
)
def test_whatever_the_histories_are_lengths_stay_within_the_promise(
    trim: int, seed: int, length: float, past: str, chained: str
) -> None:
    """The histories are the adversary's choice as well: here they say nothing of the round."""
    m = 5 * trim + 8
    rng = np.random.default_rng(seed)
    x, sums = rng.standard_normal((m, 20)), rng.standard_normal((m, 20))
    x /= np.linalg.norm(x, axis=1).max()
    x[:trim] = length * x[-1]
    sums[:trim] = {
        "alike": np.full((trim, 20), 9.0),
        "alone": 9.0 * rng.standard_normal((trim, 20)),
        "hidden": sums[trim : 2 * trim],
    }[past]
    filters: list[Filter] = {
        "clipped": [NormClipping(trim), OverTime(trim, Directions()), OverTime(trim)],
        "screened": [Length(trim), OverTime(trim, NearestNeighborMixing())],
        "mixed": [Length(trim), OverTime(trim, NearestNeighborMixing()), Norm(trim)],
        "then norm": [OverTime(trim, MultiKrum()), Norm(trim)],
    }[chained]
    longest = float(np.linalg.norm(x[trim:], axis=1).max())
    promise = reach_of(filters, m)
    assert promise in (1.0, 100.0)
    assert float(np.linalg.norm(chain(filters, _of(x, sums)) @ x)) <= promise * longest * (1 + 1e-9)


@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_alone_it_promises_nothing(inner: Filter) -> None:
    over = OverTime(2, type(inner)(**{**vars(inner), "trim": 0}))
    assert reach_of([over], 30) == math.inf
    assert reach_of([NormClipping(2), over], 30) == 1.0


def test_a_mixture_of_histories_can_hold_a_long_vector_and_no_later_filter_is_trusted_with_it() -> None:
    assert reach_of([OverTime(3, NearestNeighborMixing()), Norm(3)], 30) == math.inf
    assert reach_of([NearestNeighborMixing(3), Norm(3)], 30) == 3.0
    assert reach_of([OverTime(3, MultiKrum()), Norm(3)], 30) == 1.0


@pytest.mark.parametrize(
    ("inner", "named"),
    [
        (FoolsGold(), "filter must be one that looks at inner products alone, got 'fools-gold'"),
        (OverTime(), "filter must be one that looks at inner products alone, got 'over-time'"),
        (Spectral(2), "filter.trim must be left out: the trim is that of over-time, got 2"),
        ("spectral", "filter must be a Filter, got 'spectral'"),
    ],
)
def test_what_cannot_stand_inside_is_refused(inner: Filter, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        OverTime(2, inner)


def test_vectors_without_a_past_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="history must be known"):
        chain([OverTime(2)], Vectors.of_gram(np.eye(9)))
