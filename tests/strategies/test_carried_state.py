"""What a step carries from round to round is held to what the model is; a frozen or thrown model raises an alarm."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi

from flwr_robustcomp import from_arrays
from flwr_robustcomp.compressors import Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies import Decompressed, NormThreshold, RobustCompressed
from flwr_robustcomp.strategies.flower.builtin import carried_by
from flwr_robustcomp.strategies.server_step import Adam, Momentum, ServerStep
from tests.apps import Model
from tests.strategies.rounds import MODEL, SAMPLING, answers, updates

XS = updates(9)
HUGE = [1e25 * XS[0], *XS[1:]]
"""One reply whose square overflows float32, although the model would survive it."""

ENDLESS = [torch.full_like(x, 2e38) for x in XS]
"""Replies of which a model of float32 takes one round, and a momentum not two."""


def play(strategy: Any, xs: list[torch.Tensor], model: Model) -> Model:
    arrays, _ = strategy.aggregate_train(1, answers(strategy, xs, Identity(), model=model))
    return model if arrays is None else from_arrays(arrays)


def without_screen(step: ServerStep) -> RobustCompressed:
    return RobustCompressed(compressor=Identity(), filters=[], length_screen=None, step=step, **SAMPLING)


def test_moments_that_overflow_are_not_taken() -> None:
    strategy, undisturbed = without_screen(Adam(0.1)), without_screen(Adam(0.1))
    model = play(strategy, XS, MODEL)
    kept = {name: tensor.clone() for name, tensor in strategy.carried.items()}
    assert play(strategy, HUGE, model) is model
    assert strategy.reports[-1].skipped == "what the step carries overflows"
    assert strategy.reports[-1].quorum  # it is nobody's absence
    assert all(torch.equal(tensor, strategy.carried[name]) for name, tensor in kept.items())
    expected = play(undisturbed, XS, play(undisturbed, XS, MODEL))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in play(strategy, XS, model).items())


def test_a_momentum_that_overflows_is_not_taken() -> None:
    strategy = without_screen(Momentum(1e-30, 0.9))
    model = play(strategy, ENDLESS, MODEL)
    kept = strategy.carried["momentum"].clone()
    assert play(strategy, ENDLESS, model) is model
    assert strategy.reports[-1].skipped == "what the step carries overflows"
    assert torch.equal(strategy.carried["momentum"], kept)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi, FedAdagrad])
def test_one_huge_reply_does_not_freeze_an_adaptive_strategy_of_flowers(kind: type[FedAvg]) -> None:
    wrapped = Decompressed(kind(**SAMPLING), compressor=Identity())
    model = play(wrapped, XS, MODEL)
    carried = {name: getattr(wrapped.strategy, name) for name in carried_by(wrapped.strategy) or ()}
    assert play(wrapped, HUGE, model) is model
    assert wrapped.reports[-1].skipped == "what the inner strategy carries to the next round is not finite"
    assert all(getattr(wrapped.strategy, name) is value for name, value in carried.items())
    after = play(wrapped, XS, model)
    assert not torch.equal(Layout.of(MODEL).flatten(after), Layout.of(MODEL).flatten(model))
    assert wrapped.reports[-1].alarm is None


def test_momentum_of_flowers_does_not_keep_a_step_that_was_not_made() -> None:
    wrapped = Decompressed(FedAvgM(server_momentum=0.9, **SAMPLING), compressor=Identity())
    wrapped.step_size = 1e-3
    model = play(wrapped, XS, MODEL)
    inner = wrapped.strategy
    assert isinstance(inner, FedAvgM)
    momentum = inner.momentum_vector
    wrapped.step_size = 1e5
    assert play(wrapped, ENDLESS, model) is model
    assert inner.momentum_vector is momentum


def test_the_length_screen_keeps_a_huge_reply_from_the_moments() -> None:
    strategy = RobustCompressed(compressor=Identity(), filters=[], step=Adam(0.1), **SAMPLING)
    play(strategy, HUGE, MODEL)
    report = strategy.reports[-1]
    assert report.skipped is None and len(report.trimmed) == 1
    assert float(strategy.carried["second"].max()) < 1.0


def test_a_frozen_step_raises_an_alarm_in_log_report_and_metrics(caplog: pytest.LogCaptureFixture) -> None:
    """Moments that are finite and huge: Adam's steps no longer change a float32 model."""
    strategy = without_screen(Adam(0.1))
    model = play(strategy, XS, MODEL)
    assert strategy.reports[-1].alarm is None and (strategy.reports[-1].step or 0) > 0
    frozen = [1e18 * XS[0], *XS[1:]]
    play(strategy, frozen, model)
    strategy.carried["first"].zero_()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        arrays, metrics = strategy.aggregate_train(1, answers(strategy, XS, Identity(), model=model))
    assert arrays is not None and metrics is not None
    assert metrics["robustcomp.alarm"] == 1 and metrics["robustcomp.step-norm"] == 0.0
    assert strategy.reports[-1].alarm == "the step is zero: the model stays as it is"
    assert "ALARM in round 1: the step is zero" in caplog.text


def test_a_thrown_model_raises_an_alarm_and_a_checkpoint_keeps_the_standard() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    for _ in range(3):
        strategy.aggregate_train(1, answers(strategy, XS, L1Sign()))
    restored = NormThreshold(compressor=L1Sign(), **SAMPLING)
    restored.restore(strategy.state())
    for one in (strategy, restored):
        _, metrics = one.aggregate_train(1, answers(one, [1e5 * x for x in XS], L1Sign()))
        assert metrics is not None and metrics["robustcomp.alarm"] == 1
        assert str(one.reports[-1].alarm).startswith("the step is ")


def test_a_skipped_round_has_no_step_and_no_alarm() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=3, **SAMPLING)
    _, metrics = strategy.aggregate_train(1, answers(strategy, XS, L1Sign())[:5])
    assert strategy.reports[-1].step is None and strategy.reports[-1].alarm is None
    assert metrics is not None and "robustcomp.alarm" not in metrics


@pytest.mark.parametrize("steps", [3, 1.5, "many", ["a"]])
def test_a_garbled_standard_in_a_checkpoint_is_refused(steps: Any) -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    state = strategy.state()
    state["robustcomp.ledger"] = ConfigRecord({"standings": "{}", "steps": steps})
    with pytest.raises(ConfigurationError, match="steps must be a list of lengths"):
        strategy.restore(state)
