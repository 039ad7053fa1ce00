"""How far a replica lags: searched for with adversarial compressors and steps, and attained."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import lag_factor, memoryless_floor, replica_lag

Vector = npt.NDArray[np.float64]


def _unit(x: Vector) -> Vector:
    return x / max(float(np.linalg.norm(x)), 1e-300)


@given(
    delta=st.floats(1e-3, 1.0),
    step=st.floats(0.0, 10.0),
    initial=st.floats(0.0, 10.0),
    attack=st.sampled_from(["shrink", "stretch", "sideways", "random"]),
    seed=st.integers(0, 2**31),
)
def test_no_compressor_and_no_steps_exceed_the_lag(delta: float, step: float, initial: float, attack: str, seed: int) -> None:
    rng, s = np.random.default_rng(seed), math.sqrt(1 - delta)
    w = rng.standard_normal(3)
    v = w - initial * _unit(rng.standard_normal(3))
    for round_ in range(1, 25):
        ahead = _unit(w - v) if rng.random() < 0.5 else _unit(rng.standard_normal(3))
        w = w + step * ahead * (1 if attack == "shrink" else rng.uniform(-1, 1))
        z = w - v
        dropped = {"shrink": z, "stretch": -z, "sideways": np.cross(z, [1, 0, 0]), "random": rng.standard_normal(3)}[attack]
        v = v + z - s * np.linalg.norm(z) * _unit(dropped)
        lag = float(np.linalg.norm(w - v))
        assert lag <= replica_lag(delta, step, initial=initial, rounds=round_) * (1 + 1e-9) + 1e-12
        assert lag <= replica_lag(delta, step, initial=initial) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("delta", [1e-6, 0.1, 2 / math.pi, 0.9, 1.0])
def test_the_lag_is_attained_and_tends_to_its_bound(delta: float) -> None:
    s, lag = math.sqrt(1 - delta), 0.7
    for _ in range(40):
        lag = s * (lag + 2.0)  # C(z) = (1 - s) z, equal steps along the lag
    assert replica_lag(delta, 2.0, initial=0.7, rounds=40) == pytest.approx(lag)
    assert replica_lag(delta, 2.0, initial=0.7, rounds=0) == 0.7
    assert (
        replica_lag(delta, 2.0, rounds=10**9) == pytest.approx(replica_lag(delta, 2.0)) == pytest.approx(2 * lag_factor(delta))
    )


def test_steps_behind_of_one_bit_and_of_little() -> None:
    assert lag_factor(1.0) == 0.0
    assert lag_factor(2 / math.pi) == pytest.approx(1.517, abs=1e-3)  # signs of a Gaussian vector: a step and a half
    assert lag_factor(1e-12) == pytest.approx(2e12, rel=1e-5)


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_without_memory_there_is_a_floor_that_no_step_lowers(kappa: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        delta, scale, error = rng.uniform(0.2, 1), rng.uniform(0.1, 3), rng.uniform(0, 0.5)
        s, at, w, largest, squares = math.sqrt(1 - delta), rng.standard_normal(2), np.zeros(2), 0.0, []
        for _ in range(300):
            gradient = scale * ((1 - s) * w - at)
            largest = max(largest, float(np.linalg.norm(w)))
            squares.append(float(np.sum((scale * (w - at)) ** 2)))
            w = w - 0.5 / scale * (gradient * (1 - kappa) - error * _unit(gradient))
        assert np.mean(squares[150:]) <= memoryless_floor(delta, scale, largest, kappa=kappa, error=error) * (1 + 1e-9)
        if kappa == 0:
            still = at / (1 - s)  # where Q(w) is the minimum
            attained = memoryless_floor(delta, scale, float(np.linalg.norm(still)))
            assert attained == pytest.approx(float(np.sum((scale * (still - at)) ** 2)))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: lag_factor(0.0), r"delta must be in \(0, 1\], got 0.0"),
        (lambda: replica_lag(0.5, -1.0), r"step must be at least 0, got -1.0"),
        (lambda: replica_lag(0.5, 1.0, initial=-1.0), r"initial must be at least 0, got -1.0"),
        (lambda: replica_lag(0.5, 1.0, rounds=-1), r"rounds must be at least 0, got -1"),
        (lambda: memoryless_floor(0.5, 1.0, 1.0, kappa=1.0), r"kappa must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_values_are_named(call: Callable[[], float], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        call()
