"""The length screen: relative to the median, without a budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Length, Vectors
from flwr_robustcomp.filters.length import overlong


def never() -> np.ndarray:
    raise AssertionError("asked for the Gram matrix")


@given(
    honest=st.lists(st.floats(0, 1e300), min_size=2, max_size=30),
    liars=st.lists(st.floats(0, 1.7e308), max_size=29),
    factor=st.floats(1.5, 1e4),
)
def test_what_passes_is_no_longer_than_the_factor_allows(honest: list[float], liars: list[float], factor: float) -> None:
    liars = liars[: len(honest) - 1]
    norms = np.array([*honest, *liars])
    passed = norms[~overlong(norms, len(liars), factor)]
    assert passed.size >= (norms.size + 1) // 2
    with np.errstate(over="ignore"):
        assert passed.max() <= factor * max(honest)


def test_nobody_within_the_factor_is_dropped() -> None:
    norms = np.array([1.0, 2.0, 3.0, 90.0, 199.0])
    assert not overlong(norms, 1, 100.0).any()
    assert overlong(norms, 1, 66.0).tolist() == [False, False, False, False, True]


def test_where_most_send_nothing_the_trim_decides() -> None:
    norms = np.array([0.0] * 11 + [1.0] * 5 + [1e30] * 4)
    assert np.flatnonzero(overlong(norms, 4)).tolist() == [16, 17, 18, 19]
    assert not overlong(norms, 0).any()  # nobody is expected to lie
    assert not overlong(np.zeros(5), 1).any()


def test_one_vector_and_none() -> None:
    assert overlong(np.zeros(0), 0).shape == (0,)
    assert not overlong(np.array([1e300]), 0).any()


def test_the_screen_asks_for_no_inner_products() -> None:
    kept = Length().combine(Vectors(np.array([1.0, 1.0, 1e9, 2.0]), never), 1)
    assert kept.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("factor", [1.0, 0.0, -5.0, float("inf"), float("nan")])
def test_bad_factors_are_refused(factor: float) -> None:
    with pytest.raises(ConfigurationError, match="factor must be above 1 and finite"):
        Length(factor=factor)
