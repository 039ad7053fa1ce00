from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.simulations.report.estimate import Estimate, decimals_of, quantity


@pytest.mark.parametrize(
    ("metric", "values", "full", "short"),
    [
        ("accuracy", (0.90, 0.94), "92 ± 2\u202f%", "92\u202f%"),
        ("accuracy", (0.9232, 0.9260), "92.46 ± 0.14\u202f%", "92.46\u202f%"),
        ("accuracy", (0.5, 0.9), "70 ± 20\u202f%", "70\u202f%"),
        ("accuracy", (0.9347,), "93\u202f%", "93\u202f%"),  # one seed: nothing is known of the spread
        ("error", (8.0e-6, 8.4e-6), "(8.2 ± 0.2)e-06", "8.2e-06"),
        ("error", (1.0, 1.5), "1.2 ± 0.2", "1.2"),
        ("error", (1234.0, 1834.0), "1,500 ± 300", "1,500"),
        ("error", (0.0021,), "0.0021", "0.0021"),
        ("error", (3.0, math.inf), "diverged", "diverged"),
        ("accuracy", (0.9, math.nan), "diverged", "diverged"),
        ("error", (), "missing", "missing"),
    ],
)
def test_as_many_digits_as_the_spread_allows(metric: str, values: tuple[float, ...], full: str, short: str) -> None:
    estimate = Estimate(metric, values)
    assert str(estimate) == full
    assert estimate.short == short


def test_the_spread_is_half_of_the_range() -> None:
    estimate = Estimate("error", (1.0, 2.0, 6.0))
    assert (estimate.mean, estimate.spread) == (3.0, 2.5)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_rounding_never_moves_a_value_by_more_than_half_of_its_spread(value: float, spread: float) -> None:
    assert abs(round(value, decimals_of(value, spread)) - value) <= 0.5 * spread * (1 + 1e-9) + 1e-12 * value


@given(st.floats(1e-12, 1e12))
def test_a_value_alone_keeps_two_digits(value: float) -> None:
    assert float(quantity(value, None).replace(",", "")) == pytest.approx(value, rel=0.051)
