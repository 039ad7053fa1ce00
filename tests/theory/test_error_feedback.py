"""Theorem 3: its bound by hand, the best step against a search, the rates of remarks 9 and 10, and a run that obeys it."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import ErrorFeedback

PROBLEM: dict[str, Any] = {"gap": 2.0, "smoothness": 4.0, "lipschitz": 3.0}


def _theorem(delta: float, rounds: int, **options: Any) -> ErrorFeedback:
    return ErrorFeedback(**PROBLEM, delta=delta, rounds=rounds, **options)


def test_the_bound_by_hand() -> None:
    gamma, half = 0.1, 0.5 - 4 * 0.1 / 2
    first, second = 2 / (gamma * 100 * half), 4 * gamma**2 * 16 * 9 * 0.75 / (0.25**2 * half)
    assert _theorem(0.25, 99).bound(gamma) == pytest.approx(first + second)
    s = math.sqrt(0.75)
    halved = second / 8 * (1 + s) ** 2
    assert _theorem(0.25, 99, form="exact").bound(gamma) == pytest.approx(first + halved)
    assert _theorem(1.0, 99).bound(gamma) == pytest.approx(first)  # remark 8


@given(delta=st.floats(1e-4, 1.0), rounds=st.integers(1, 10**9), form=st.sampled_from(["stated", "exact"]))
def test_remark_10_is_the_minimum(delta: float, rounds: int, form: str) -> None:
    theorem = _theorem(delta, rounds, form=form)
    best = theorem.bound(theorem.remark_10)
    for gamma in np.geomspace(1e-9, 0.999, 300) / PROBLEM["smoothness"]:
        assert best <= theorem.bound(float(gamma)) * (1 + 1e-9)
    assert 0 < theorem.remark_10 <= 0.5 / PROBLEM["smoothness"]


@pytest.mark.parametrize("delta", [1e-4, 0.01, 0.5])
def test_remark_10s_rate(delta: float) -> None:
    theorem = _theorem(delta, 10**12)
    assert theorem.remark_10 == pytest.approx(theorem.remark_10_asymptotic, rel=0.02)
    rate = 6 * (2 * 4 * 3) ** (2 / 3) * ((1 - delta) / delta**2) ** (1 / 3) / 1e12 ** (2 / 3)
    assert theorem.bound(theorem.remark_10) == pytest.approx(rate, rel=0.02)
    step = (2 * delta**2 / (8 * 16 * 9 * (1 - delta) * 1e12)) ** (1 / 3)
    assert theorem.remark_10_asymptotic == pytest.approx(step, rel=1e-6)


def test_remark_10s_rate_is_too_good_to_be_true_near_no_compression() -> None:
    theorem = _theorem(1 - 1e-12, 10_000)
    floor = 8 * 4 * 2 / 10_001
    rate = 6 * (2 * 4 * 3) ** (2 / 3) * 1e-12 ** (1 / 3) / 1e4 ** (2 / 3)
    assert rate < floor <= theorem.bound(theorem.remark_10) * (1 + 1e-9)
    exact = _theorem(1.0, 10_000)
    assert exact.remark_10 == pytest.approx(0.5 / 4)
    assert exact.bound(exact.remark_10) == pytest.approx(floor)
    assert exact.remark_10_asymptotic == math.inf


def test_remark_9_is_a_valid_step_and_slower() -> None:
    few, many = _theorem(0.5, 10**4), _theorem(0.5, 10**8)
    assert few.bound(few.remark_9) / many.bound(many.remark_9) == pytest.approx(100, rel=0.2)  # 1/sqrt(T)
    assert few.bound(few.remark_10) / many.bound(many.remark_10) == pytest.approx(10_000 ** (2 / 3), rel=0.2)
    assert many.bound(many.remark_10) < many.bound(many.remark_9)


def test_a_small_delta_needs_rounds_like_its_inverse() -> None:
    for delta in (1e-2, 1e-4):
        rounds = round(6**1.5 * 4 * 2 / (9 * delta))
        before, after = _theorem(delta, rounds // 3), _theorem(delta, 3 * rounds)
        assert before.bound(before.remark_10) > 9 > after.bound(after.remark_10)  # L^2, which holds without any theorem


@pytest.mark.parametrize("form", ["stated", "exact"])
def test_a_run_obeys_the_bound(form: Literal["stated", "exact"]) -> None:
    # F_i(w) = sum_k log cosh(w_k - c_ik): gradients tanh, so L = sqrt(d) and L_F = 1; top-1 of eight coordinates.
    rng = np.random.default_rng(0)
    m, d, rounds = 5, 8, 60
    centres = torch.from_numpy(rng.standard_normal((m, d)))
    compressor = TopK(k=1)

    def loss(w: torch.Tensor) -> float:
        return float(torch.log(torch.cosh(w - centres)).sum(dim=1).mean())

    w0 = torch.full((d,), 3.0, dtype=torch.float64)
    best = w0.clone()
    for _ in range(2000):
        best -= torch.tanh(best - centres).mean(dim=0)
    theorem = ErrorFeedback(
        gap=loss(w0) - loss(best),
        smoothness=1.0,
        lipschitz=math.sqrt(d),
        delta=1 / d,
        rounds=rounds,
        form=form,
    )
    for gamma in (theorem.remark_9, theorem.remark_10, 0.5):
        w, errors, smallest = w0.clone(), torch.zeros(m, d, dtype=torch.float64), math.inf
        for _ in range(rounds + 1):
            gradients = torch.tanh(w - centres)
            smallest = min(smallest, float(gradients.mean(dim=0).square().sum()))
            p = gamma * gradients + errors
            sent = torch.stack([compressor.decompress(compressor.compress(row)) for row in p])
            errors = p - sent
            assert float(errors.norm(dim=1).max()) <= math.sqrt(1 - 1 / d) / (1 - math.sqrt(1 - 1 / d)) * gamma * math.sqrt(d)
            w = w - sent.mean(dim=0)
        assert smallest <= theorem.bound(gamma)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gap": 0.0}, "gap must be positive, got 0.0"),
        ({"delta": 0.0}, r"delta must be in \(0, 1\], got 0.0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"form": "loose"}, "form must be stated or exact, got 'loose'"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        ErrorFeedback(**{**PROBLEM, "delta": 0.5, "rounds": 10, **options})
    with pytest.raises(ConfigurationError, match=r"step_size must be in \(0, 1/L_F = 0.25\), got 0.25"):
        _theorem(0.5, 10).bound(0.25)
