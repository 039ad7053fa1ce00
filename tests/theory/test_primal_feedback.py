"""EF21-P: adversarial compressors, errors and noise against its bound, and how near its largest step is to the truth."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import PrimalErrorFeedback, contraction, lag_factor, sampling_noise
from tests.theory.adversarial import ATTACKS, Rows, compressed, units

PROBLEM: dict[str, Any] = {"gap": 2.0, "smoothness": 4.0, "delta": 0.4, "rounds": 50}


@given(
    delta=st.floats(0.01, 1.0),
    kappa=st.sampled_from([0.0, 0.0, 0.2, 0.6]),
    error=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    initial=st.sampled_from([0.0, 0.5]),
    start=st.sampled_from([1e-6, 0.3, 2.0]),
    share=st.floats(0.05, 0.999),
    attack=st.sampled_from(ATTACKS),
    rounds=st.sampled_from([1, 3, 60]),
    seed=st.integers(0, 2**31),
)
def test_no_run_exceeds_the_bound(
    delta: float, kappa: float, error: float, initial: float, start: float, share: float, attack: str, rounds: int, seed: int
) -> None:
    # 20 problems at once: half quadratics, half sums of cosines, which are not convex; both with L_F known.
    rng = np.random.default_rng(seed)
    curvature = rng.uniform(0, 2, (20, 3))
    curvature[:, 0] = 2.0
    round_bottom = (np.arange(20) < 10)[:, None]
    w = rng.uniform(-start, start, (20, 3))
    v = w - initial * units(rng.standard_normal(w.shape))

    def gradient(x: Rows) -> Rows:
        return curvature * np.where(round_bottom, x, np.sin(x))

    gaps = np.sum(curvature * np.where(round_bottom, w**2 / 2, 1 - np.cos(w)), axis=1)
    given_: dict[str, Any] = {"kappa": kappa, "error": error, "initial_lag": initial, "delta": delta, "rounds": rounds}
    gamma = share * PrimalErrorFeedback(gap=1.0, smoothness=2.0, **given_).largest_step
    total = np.zeros(20)
    for _ in range(rounds):
        total += np.sum(gradient(w) ** 2, axis=1)
        h = gradient(v)
        wrong = (-h, w - v, rng.standard_normal(h.shape))[seed % 3]
        g = h + (kappa * np.linalg.norm(h, axis=1, keepdims=True) + error) * units(wrong)
        w = w - gamma * g
        v = v + compressed(w - v, delta, attack, rng)
    bounds = [PrimalErrorFeedback(gap=float(gap), smoothness=2.0, **given_).bound(gamma) for gap in gaps]
    assert np.all(total / rounds <= np.array(bounds) * (1 + 1e-9))


@pytest.mark.parametrize("stretch", [-1, 1])
@pytest.mark.parametrize("delta", [0.05, 0.5, 1.0])
def test_noise_in_expectation_over_all_its_draws(delta: float, stretch: int) -> None:
    s, sigma, rounds, scale = math.sqrt(1 - delta), 0.7, 10, 3.0
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=rounds)))  # (1024, rounds): every path has the same weight
    for share in (0.1, 0.5, 0.99):
        theorem = PrimalErrorFeedback(gap=scale / 2, smoothness=scale, delta=delta, rounds=rounds, noise=sigma)
        gamma, total = share * theorem.largest_step, 0.0
        w = v = np.ones(len(signs))
        for t in range(rounds):
            total += float(np.mean((scale * w) ** 2))
            w = w - gamma * (scale * v + sigma * signs[:, t])
            v = v + (1 + stretch * s) * (w - v)
        assert total / rounds <= theorem.bound(gamma)


@pytest.mark.parametrize("delta", [0.003, 0.1, 0.5, 0.9])
def test_the_largest_step_is_nearly_the_largest(delta: float) -> None:
    s, theta = math.sqrt(1 - delta), lag_factor(delta)
    theorem = PrimalErrorFeedback(**{**PROBLEM, "delta": delta})
    limit = 2 / (1 + 2 * theta)
    assert 0.5 * limit < theorem.largest_step * 4.0 < limit
    if delta < 0.01:
        assert theorem.largest_step * 4.0 == pytest.approx(limit, rel=0.01) == pytest.approx(delta / 2, rel=0.01)
    for factor, converges in ((0.98, True), (1.02, False)):
        x, w, v = factor * limit, 1.0, 1.0
        for _ in range(20_000):
            w -= x * v
            v += (1 + s) * (w - v)
            if abs(w) > 1e6 or abs(w) + abs(v) < 1e-6:
                break
        assert (abs(w) < 1e-6) is converges


def test_the_bound_by_hand_and_what_it_becomes() -> None:
    gamma = 0.05
    assert PrimalErrorFeedback(**PROBLEM).bound(gamma) == pytest.approx(2 * 2.0 / (gamma * 50))  # that of gradient descent
    dense = PrimalErrorFeedback(**{**PROBLEM, "delta": 1.0})
    assert dense.largest_step == 0.25
    kappa = contraction(0.9, 0.05, 0.1)
    endless: dict[str, Any] = {**PROBLEM, "rounds": 10**12, "kappa": kappa, "error": 0.3}
    # Attained: where ||grad F|| = 0.3 / (1 - kappa), an error against the gradient may be as long as the gradient.
    assert PrimalErrorFeedback(**endless).bound(1e-6) == pytest.approx((0.3 / (1 - kappa)) ** 2, rel=1e-3)
    noisy: dict[str, Any] = {**PROBLEM, "rounds": 10**12, "noise": 2.0}
    half = PrimalErrorFeedback(**noisy).largest_step / 2
    assert half * 4 * 2.0**2 < PrimalErrorFeedback(**noisy).bound(half) < 5 / 3 * half * 4 * 2.0**2


@given(delta=st.floats(0.05, 1.0), share=st.floats(0.1, 1.0), initial=st.sampled_from([0.0, 0.4]), seed=st.integers(0, 2**31))
def test_a_linear_rate_where_the_loss_grows(delta: float, share: float, initial: float, seed: int) -> None:
    rng, s, rounds = np.random.default_rng(seed), math.sqrt(1 - delta), 40
    curvature = np.array([0.3, 1.0, 2.0])
    w = rng.standard_normal(3)
    v = w - initial * units(rng.standard_normal(3))
    theorem = PrimalErrorFeedback(
        gap=float(np.sum(curvature * w**2)) / 2, smoothness=2.0, delta=delta, rounds=rounds, initial_lag=initial
    )
    gamma = share * 0.7 * theorem.largest_step * (1 - s) / (1 - s + 0.3 * theorem.largest_step)  # inside the condition
    bound = theorem.linear_bound(gamma, 0.3)
    for _ in range(rounds):
        w = w - gamma * curvature * v
        v = v + compressed(w - v, delta, ("stretch", "shrink", "random")[seed % 3], rng)
    assert float(np.sum(curvature * w**2)) / 2 <= bound * (1 + 1e-9)


def test_the_noise_of_a_sample_is_that_of_all_samples() -> None:
    gradients = np.random.default_rng(0).standard_normal((6, 4))
    centred = gradients - gradients.mean(axis=0)
    zeta = math.sqrt(float(np.mean(np.sum(centred**2, axis=1))))
    for sampled in (1, 2, 5, 6):
        means = [centred[list(chosen)].mean(axis=0) for chosen in itertools.combinations(range(6), sampled)]
        assert sampling_noise(6, sampled, zeta) == pytest.approx(math.sqrt(np.mean([m @ m for m in means])), abs=1e-12)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gap": 0.0}, "gap must be positive, got 0.0"),
        ({"delta": 0.0}, r"delta must be in \(0, 1\], got 0.0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"kappa": 1.0}, r"kappa must be in \[0, 1\), got 1.0"),
        ({"noise": -1.0}, "noise must be at least 0, got -1.0"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        PrimalErrorFeedback(**{**PROBLEM, **options})


def test_bad_steps_and_samples_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"step_size must be in \(0, 0.0629299\), got 0.2"):
        PrimalErrorFeedback(**PROBLEM).bound(0.2)
    with pytest.raises(ConfigurationError, match=r"step_size must be positive, with gamma mu"):
        PrimalErrorFeedback(**PROBLEM).linear_bound(0.2, 1.0)
    with pytest.raises(ConfigurationError, match=r"kappa, error, noise must be 0: the linear rate"):
        PrimalErrorFeedback(**PROBLEM, noise=1.0).linear_bound(0.01, 1.0)
    with pytest.raises(ConfigurationError, match=r"sampled must be in \[1, nodes = 3\], got 4"):
        sampling_noise(3, 4, 1.0)
