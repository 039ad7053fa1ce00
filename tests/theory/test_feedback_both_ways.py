"""Memory in both directions: both bounds searched for with adversarial compressors and aggregators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import ByzEF21BC, FeedbackBothWays, PrimalErrorFeedback
from tests.theory.adversarial import ATTACKS, Rows, compressed, units

UP_DOWN: dict[str, Any] = {"gap": 2.0, "smoothness": 2.0, "delta_up": 0.5, "delta_down": 0.3, "rounds": 40}


@given(
    up=st.floats(0.02, 1.0),
    down=st.floats(0.02, 1.0),
    spread=st.sampled_from([0.0, 0.0, 1.0]),
    start=st.sampled_from([1e-6, 2.0]),
    share=st.floats(0.05, 0.999),
    attacks=st.tuples(st.sampled_from(ATTACKS), st.sampled_from(ATTACKS)),
    rounds=st.sampled_from([1, 5, 50]),
    seed=st.integers(0, 2**31),
)
def test_error_feedback_both_ways_obeys_its_bound(
    up: float, down: float, spread: float, start: float, share: float, attacks: tuple[str, str], rounds: int, seed: int
) -> None:
    # F_i(w) = F(w) + <a_i, w> with sum a_i = 0, F a quadratic or a sum of cosines.
    rng = np.random.default_rng(seed)
    curvature, convex = np.array([2.0, rng.uniform(0, 2)]), seed % 2 == 0
    tilts = rng.standard_normal((4, 2)) * spread
    tilts -= tilts.mean(axis=0)
    w = rng.uniform(-start, start, 2)

    def gradient(x: Rows) -> Rows:
        bent: Rows = x if convex else np.sin(x)
        return curvature * bent

    theorem = FeedbackBothWays(
        gap=float(np.sum(curvature * (w**2 / 2 if convex else 1 - np.cos(w)))),
        smoothness=2.0,
        delta_up=up,
        delta_down=down,
        rounds=rounds,
        dissimilarity=math.sqrt(float(np.mean(np.sum(tilts**2, axis=1)))),
    )
    gamma, v, residuals, total = share * theorem.largest_step, w, np.zeros((4, 2)), 0.0
    for _ in range(rounds):
        h = gradient(v)
        total += float(h @ h)
        p = gamma * (h + tilts) + residuals
        sent = compressed(p, up, attacks[0], rng)
        residuals = p - sent
        w = w - sent.mean(axis=0)
        v = v + compressed(w - v, down, attacks[1], rng)
    assert total / rounds <= theorem.bound(gamma) * (1 + 1e-9)


@given(
    up=st.floats(0.02, 1.0),
    down=st.floats(0.02, 1.0),
    robustness=st.sampled_from([0.0, 0.3, 1.5]),
    spread=st.sampled_from([0.0, 1.0]),
    start=st.sampled_from([1e-6, 2.0]),
    share=st.floats(0.05, 0.999),
    attacks=st.tuples(st.sampled_from(ATTACKS), st.sampled_from(ATTACKS)),
    rounds=st.sampled_from([1, 5, 50]),
    seed=st.integers(0, 2**31),
)
def test_byz_ef21_bc_obeys_its_bound(
    up: float,
    down: float,
    robustness: float,
    spread: float,
    start: float,
    share: float,
    attacks: tuple[str, str],
    rounds: int,
    seed: int,
) -> None:
    # F_i(w) = sum_k l_ik w_k^2 / 2 + <a_i, w> in four honest nodes; the aggregator errs by as much as it may.
    rng = np.random.default_rng(seed)
    own = 2.0 + 0.5 * rng.uniform(-1, 1, (4, 2))
    own *= 2.0 / own.mean(axis=0)  # F has L_F = 2 in both directions
    tilts = rng.standard_normal((4, 2)) * spread
    tilts -= tilts.mean(axis=0)
    w = rng.uniform(-start, start, 2)
    # ||(l_i - 2) w + a_i||^2 <= 2 ||(l_i - 2) w||^2 + 2 ||a_i||^2, and ||grad F||^2 = 4 ||w||^2
    deviation = float(np.max(np.mean((own - 2.0) ** 2, axis=0)))
    theorem = ByzEF21BC(
        gap=float(w @ w),
        smoothness=2.0,
        delta_up=up,
        delta_down=down,
        rounds=rounds,
        robustness=robustness,
        dissimilarity=math.sqrt(2 * float(np.mean(np.sum(tilts**2, axis=1)))),
        growth=2 * deviation / 4,
        mean_smoothness=math.sqrt(4.0 + deviation),
    )
    gamma, v, total = share * theorem.largest_step, w, 0.0
    kept = own * v + tilts
    for _ in range(rounds):
        total += 4 * float(w @ w)
        mean = kept.mean(axis=0)
        scatter = math.sqrt(float(np.mean(np.sum((kept - mean) ** 2, axis=1))))
        wrong = (-mean, w - v, rng.standard_normal(2))[seed % 3]
        w = w - gamma * (mean + robustness * scatter * units(wrong))
        v = v + compressed(w - v, down, attacks[1], rng)
        kept = kept + compressed(own * v + tilts - kept, up, attacks[0], rng)
    assert total / rounds <= theorem.bound(gamma) * (1 + 1e-9)


def test_the_price_of_unlike_nodes_is_nearly_attained() -> None:
    # The nodes pull along the first axis, and all their compressors err along the second, to and fro.
    theorem = FeedbackBothWays(gap=1e-12, smoothness=2.0, delta_up=0.98, delta_down=1.0, rounds=200, dissimilarity=1.0)
    gamma, w, residuals, total = 0.005, np.zeros(2), np.zeros((2, 2)), 0.0
    for round_ in range(200):
        h = 2.0 * w
        total += float(h @ h)
        p = gamma * (h + np.array([[1.0, 0.0], [-1.0, 0.0]])) + residuals
        residuals = math.sqrt(0.02) * np.linalg.norm(p, axis=1)[:, None] * np.array([0.0, (-1.0) ** round_])
        w = w - (p - residuals).mean(axis=0)
    assert 0.6 * theorem.bound(gamma) < total / 200 <= theorem.bound(gamma)


@pytest.mark.parametrize("deltas", [(0.1, 0.1), (0.5, 0.2), (0.9, 0.9)])
def test_the_largest_step_is_nearly_the_largest(deltas: tuple[float, float]) -> None:
    theorem = FeedbackBothWays(**{**UP_DOWN, "smoothness": 1.0, "delta_up": deltas[0], "delta_down": deltas[1]})
    up, down = (math.sqrt(1 - delta) for delta in deltas)
    limit = 2 * (1 - up) * (1 - down) / ((1 + up) * (1 + down))  # 2 / (1 + 2 Theta)
    assert 0.9 * limit < theorem.largest_step < limit
    for factor, converges in ((0.98, True), (1.02, False)):
        w, v, residual = 1.0, 1.0, 0.0
        for _ in range(30_000):
            p = factor * limit * v + residual
            w, residual = w - (1 + up) * p, -up * p
            v += (1 + down) * (w - v)
            if abs(w) > 1e6 or abs(w) + abs(v) < 1e-6:
                break
        assert (abs(w) < 1e-6) is converges


def test_one_direction_is_the_theorem_of_one_direction() -> None:
    one = PrimalErrorFeedback(gap=2.0, smoothness=2.0, delta=0.3, rounds=40)
    dense_up = {**UP_DOWN, "delta_up": 1.0}
    byzantine = ByzEF21BC(**dense_up, robustness=0.0, mean_smoothness=5.0)
    assert byzantine.largest_step == one.largest_step == FeedbackBothWays(**dense_up).largest_step
    gamma = one.largest_step / 2
    assert byzantine.bound(gamma) == pytest.approx(one.bound(gamma))
    swapped = {**UP_DOWN, "delta_up": 0.3, "delta_down": 0.5}
    assert FeedbackBothWays(**UP_DOWN).largest_step == pytest.approx(FeedbackBothWays(**swapped).largest_step)


@given(up=st.floats(1e-3, 1.0), down=st.floats(1e-3, 1.0), growth=st.floats(0.0, 3.9))
def test_a_rounding_below_the_largest_step_the_bounds_are_large(up: float, down: float, growth: float) -> None:
    deltas: dict[str, Any] = {**UP_DOWN, "smoothness": 1.9, "delta_up": up, "delta_down": down, "dissimilarity": 1.0}
    byzantine = ByzEF21BC(**deltas, robustness=0.5, mean_smoothness=2.0, growth=growth)
    for theorem in (FeedbackBothWays(**deltas), byzantine):
        assert theorem.bound(math.nextafter(theorem.largest_step, 0)) > theorem.bound(theorem.largest_step / 2)


def test_floors_and_rates_for_many_rounds() -> None:
    byzantine = ByzEF21BC(**{**UP_DOWN, "rounds": 10**15}, robustness=0.4, mean_smoothness=2.0, dissimilarity=3.0, growth=0.5)
    assert byzantine.floor == pytest.approx((0.4 * 3 / (1 - 0.4 * math.sqrt(0.5))) ** 2)
    # Attained: where the mean is as long as robustness times the scatter, an aggregator may return zero.
    assert byzantine.bound(1e-6) == pytest.approx(byzantine.floor, rel=1e-3)

    def best(rounds: int, dissimilarity: float) -> float:
        theorem = FeedbackBothWays(**{**UP_DOWN, "rounds": rounds}, dissimilarity=dissimilarity)
        return min(theorem.bound(theorem.largest_step * share) for share in np.geomspace(1e-6, 0.999, 2000))

    assert best(10**7, 0.0) / best(10**9, 0.0) == pytest.approx(100, rel=0.01)
    assert best(10**7, 1.0) / best(10**10, 1.0) == pytest.approx(100, rel=0.05)  # T^(-2/3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delta_up": 0.0}, r"delta_up must be in \(0, 1\], got 0.0"),
        ({"delta_down": 2.0}, r"delta_down must be in \(0, 1\], got 2.0"),
        ({"gap": 0.0}, "gap must be positive, got 0.0"),
        ({"growth": 4.0}, r"robustness \* sqrt\(growth\) must be below 1, or nothing converges, got 1.0"),
        ({"mean_smoothness": 1.0}, "mean_smoothness must be at least L_F = 2"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], named: str) -> None:
    good: dict[str, Any] = {**UP_DOWN, "robustness": 0.5, "mean_smoothness": 2.0}
    with pytest.raises(ConfigurationError, match=named):
        ByzEF21BC(**{**good, **options})
    with pytest.raises(ConfigurationError, match=r"step_size must be in \(0, "):
        ByzEF21BC(**good).bound(1.0)
    with pytest.raises(ConfigurationError, match=r"step_size must be in \(0, "):
        FeedbackBothWays(**UP_DOWN).bound(1.0)
