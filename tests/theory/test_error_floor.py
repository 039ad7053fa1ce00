"""The statistical errors: the printed formulas by hand, the probabilities by the union bound that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import contraction, convergence_bound, epsilon_1, epsilon_2, error_floor, failure_probability

dimensions, points, positive = st.integers(1, 500), st.integers(1, 10**6), st.floats(1e-3, 1e3)


def test_equations_2_and_3_as_printed() -> None:
    a = 3 / 100 * math.log(1 + 2 * 100 * 0.5 * 3)
    assert epsilon_1(2.0, 3, 100, 0.5) == pytest.approx(2 * math.sqrt(3) * max(a, math.sqrt(a)) + 1 / 100)
    n = 0.9 * 20 * 100
    b = 3 / n * math.log(1 + 2 * n * 0.5 * 3)
    assert epsilon_2(2.0, 3, 100, 0.5, nodes=20, alpha=0.1) == pytest.approx(2 * math.sqrt(3) * max(b, math.sqrt(b)))


def _log_union(d: int, n: float, lipschitz: float, diameter: float, t_over_nu: float) -> float:
    """Return the log of the union bound: cover points, two sides and d coordinates of Chernoff's bound from Definition 1."""
    ratio = t_over_nu
    exponent = ratio - 0.5 if ratio > 1 else ratio**2 / 2  # sup over lambda <= 1/nu of lambda t - lambda^2 nu^2 / 2
    return math.log(2 * d) + d * math.log1p(2 * n * lipschitz * diameter) - n * exponent


@given(d=dimensions, n=points, lipschitz=positive, diameter=positive)
def test_the_corrected_epsilon_fails_no_more_often_than_said(d: int, n: int, lipschitz: float, diameter: float) -> None:
    t = (epsilon_1(1.0, d, n, lipschitz, diameter=diameter) - 1 / n) / math.sqrt(d)
    said = math.log(2 * d) - d * math.log1p(2 * n * lipschitz * diameter)
    assert _log_union(d, n, lipschitz, diameter, t) <= said + 1e-6 * abs(said) + 1e-6
    claimed = math.log(2 * d) - d * math.log1p(n * lipschitz * diameter)
    assert said <= claimed


def test_the_printed_epsilon_says_nothing_where_the_space_is_wide() -> None:
    d, n, lipschitz, diameter = 10, 10_000, 1.0, 50.0
    t = (epsilon_1(1.0, d, n, lipschitz) - 1 / n) / math.sqrt(d)
    assert _log_union(d, n, lipschitz, diameter, t) > 0  # "probability" above one
    # Even with the tail as the paper writes it, without Chernoff's half.
    assert math.log(2 * d) + d * math.log1p(2 * n * lipschitz * diameter) - n * min(t, t**2) > 0


def test_failure_probability_by_hand() -> None:
    one = 2 * 2 * (1 + 2 * 10 * 0.5 * 3) ** -2
    mean = 2 * 2 * (1 + 2 * 45 * 0.5 * 3) ** -2
    assert failure_probability(2, 10, 0.5, 3, nodes=5, alpha=0.1) == pytest.approx(4.5 * one + mean)
    assert failure_probability(2, 10, 1e-9, 1e-9, nodes=5, alpha=0.1) == 1.0


def test_equations_4_and_6_by_hand() -> None:
    options: dict[str, Any] = {"delta": 0.75, "alpha": 0.1, "beta": 0.2, "lambda0": 0.5}  # s = 1/2
    mean = (0.9 / 0.8) ** 2 * 0.01**2
    assert error_floor(0.1, 0.01, theorem=1, **options) == pytest.approx(6 * (mean + (0.8 / 0.8) ** 2 * 0.01))
    assert error_floor(0.1, 0.01, theorem=2, **options) == pytest.approx(6 * (mean + (0.9 / 0.8) ** 2 * 0.01))
    sharp = error_floor(0.1, 0.01, theorem=2, form="sharp", **options)
    assert sharp == pytest.approx(6 * (mean + (0.5 + 0.3 / 0.8) ** 2 * 0.01))


def test_equation_5() -> None:
    # beta = c alpha, n and m large: epsilon falls like (alpha^2 + 1 - delta)/n + 1/(m n) up to logarithms.
    def floor(n: int, m: int, delta: float) -> float:
        e1, e2 = epsilon_1(1.0, 5, n, 1.0), epsilon_2(1.0, 5, n, 1.0, nodes=m, alpha=0.01)
        return error_floor(e1, e2, delta=delta, alpha=0.01, beta=0.02, lambda0=0.1, theorem=1)

    assert floor(10**8, 100, 0.9) / floor(10**6, 100, 0.9) == pytest.approx(0.01, rel=0.5)
    assert floor(10**6, 100, 0.9) > floor(10**6, 100, 0.99) > floor(10**6, 100, 1.0) > floor(10**6, 10**4, 1.0)


def test_gradient_descent_with_errors_stays_below_the_bound() -> None:
    # F(w) = w^2 / 2, L_F = 1; every step is off by kappa |grad F| + e, the worst that Delta may be.
    kappa, lambda0, e = contraction(0.75, 0.05, 0.05), 0.2, 0.01
    floor = (1 + 1 / lambda0) * e**2
    c = 0.05
    w, smallest = 3.0, math.inf
    for rounds in range(1, 200):
        smallest = min(smallest, w**2)
        w -= c * (w - (kappa * w + e))
        bound = convergence_bound(4.5, 1.0, rounds, floor, kappa=kappa, lambda0=lambda0, step=c)
        assert min(smallest, w**2) <= bound
    assert bound < 9


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: epsilon_1(0, 1, 1, 1), "nu must be positive, got 0"),
        (lambda: epsilon_1(1, 1, 0, 1), "samples must be at least 1, got 0"),
        (lambda: epsilon_1(1, 1, 1, 1, diameter=-1), "diameter must be positive or None, got -1"),
        (lambda: epsilon_2(1, 1, 1, 1, nodes=3, alpha=0.6), r"alpha must be in \[0, 0.5\), got 0.6"),
        (lambda: error_floor(1, 1, delta=0.5, alpha=0, beta=0, lambda0=0), "lambda0 must be positive"),
        (lambda: convergence_bound(1, 1, 1, 0, kappa=1.0, lambda0=0.1), "kappa must be below 0.9535"),
        (lambda: convergence_bound(1, 1, 1, 0, kappa=0.5, lambda0=0.1, step=1.0), r"step must be in \(0, 0.2843\)"),
    ],
)
def test_bad_values_are_named(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        call()
