"""Server steps against Flower's own FedAvgM and FedAdam, and the paper's plain step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.server_step import Adam, Momentum, Plain, ServerStep, StepState

D, ROUNDS = 30, 6


def updates() -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.standard_normal(D)) for _ in range(ROUNDS)]


def ours(step: ServerStep) -> np.ndarray:
    w, state = torch.ones(D, dtype=torch.float64), StepState()
    for round_, update in enumerate(updates(), start=1):
        change, state = step.apply(update.clone(), state, round_)
        w = w - change
    return w.numpy()


def flowers(strategy: FedAvg, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Feed the strategy's own server step with the aggregates w_t - x."""
    w = ArrayRecord({"w": Array(np.ones(D))})
    for round_, update in enumerate(updates(), start=1):
        aggregate = ArrayRecord({"w": Array(w["w"].numpy() - update.numpy())})

        def plain(self: FedAvg, *args: Any, aggregate: ArrayRecord = aggregate) -> tuple[ArrayRecord, None]:
            return aggregate, None

        monkeypatch.setattr(FedAvg, "aggregate_train", plain)
        monkeypatch.setattr(FedAvg, "configure_train", lambda self, *args: [])
        strategy.configure_train(round_, w, None, None)  # type: ignore[arg-type]
        new, _ = strategy.aggregate_train(round_, [])
        assert new is not None
        w = new
    return w["w"].numpy()


def test_plain() -> None:
    assert np.allclose(ours(Plain(0.5)), 1 - 0.5 * sum(u.numpy() for u in updates()))


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_momentum_is_fed_avg_m(beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = FedAvgM(server_learning_rate=0.3, server_momentum=beta)
    assert np.allclose(ours(Momentum(0.3, beta)), flowers(strategy, monkeypatch))


def test_adam_is_fed_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3)
    assert np.allclose(ours(Adam()), flowers(strategy, monkeypatch))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Plain(0.0), "step_size must be positive"),
        (lambda: Momentum(1.0, 1.0), r"beta must be in \[0, 1\)"),
        (lambda: Adam(beta_2=1.0), r"beta_2 must be in \[0, 1\)"),
        (lambda: Adam(tau=0.0), "tau must be positive"),
    ],
)
def test_bad_parameters(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


def _moments(**changed: torch.Tensor) -> StepState:
    return {"first": torch.ones(3), "second": torch.ones(3), **changed}


@pytest.mark.parametrize(
    ("step", "state", "why"),
    [
        (Plain(), {"momentum": torch.ones(3)}, r"carries must be \[\]"),
        (Momentum(), {"first": torch.ones(3)}, r"carries must be \['momentum'\]"),
        (Momentum(), {"momentum": torch.ones(2, 3)}, r"shape of the step's 'momentum' must be \(3,\)"),
        (Momentum(), {"momentum": torch.ones(4)}, r"shape of the step's 'momentum' must be \(3,\)"),
        (Momentum(), {"momentum": torch.ones(3, dtype=torch.int64)}, "dtype of the step's 'momentum'"),
        (Momentum(), {"momentum": torch.tensor([1.0, 1.0, float("nan")])}, "must be finite"),
        (Adam(), {"first": torch.ones(3)}, "carries must be"),
        (Adam(), _moments(first=torch.ones(3, 1)), "shape of the step's 'first'"),
        (Adam(), _moments(second=torch.ones(1)), "shape of the step's 'second'"),
        (Adam(), _moments(second=torch.full((3,), float("inf"))), "must be finite"),
        (Adam(), _moments(second=-torch.ones(3)), "'second' must be at least 0"),
    ],
)
def test_a_state_that_the_step_cannot_have_returned_is_refused(step: ServerStep, state: StepState, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        step.check_state(state, 3, torch.float32)
    step.check_state({}, 3, torch.float32)


@pytest.mark.parametrize("step", [Plain(), Momentum(), Adam()])
def test_what_a_step_returns_is_accepted(step: ServerStep) -> None:
    step.check_state(step.apply(torch.ones(3), {}, 1)[1], 3, torch.float32)
