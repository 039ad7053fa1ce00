"""Flower's mods for differential privacy beside the compression: the right order works, the wrong one says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    FedAvg,
)

from flwr_robustcomp import CompressionMod, Decompressed, NormThreshold, to_arrays
from flwr_robustcomp.compressors import QSGD, Compressor, Drive, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid
from tests.apps import app, gaussian_model
from tests.strategies.rounds import SAMPLING

NODES, CLIP, ROUNDS = 4, 0.5, 6
MODEL = gaussian_model(0)
FIXED, ADAPTIVE = DifferentialPrivacyClientSideFixedClipping, DifferentialPrivacyClientSideAdaptiveClipping


def play(wrapper: Any, compressor: Compressor, *mods: Any, rounds: int = ROUNDS, error_feedback: bool = True) -> Any:
    """Run clients that all move by one vector, so that the step of a round is what each of them sent."""
    strategy = Decompressed(wrapper(FedAvg(**SAMPLING)), compressor=compressor)
    shift = gaussian_model(1)
    listed = [
        CompressionMod(compressor, error_feedback=error_feedback, seed=1) if mod is CompressionMod else mod for mod in mods
    ]
    client = app(lambda w: {name: t + shift[name] for name, t in w.items()}, listed)
    with InProcessGrid(client, NODES) as grid:
        strategy.start(grid, to_arrays(MODEL), num_rounds=rounds)
    return strategy


def fixed(strategy: Any) -> Any:
    return FIXED(strategy, 0.0, CLIP, NODES)


@pytest.mark.parametrize("compressor", [L1Sign(), Drive(), TopK(ratio=0.1)], ids=repr)
@pytest.mark.parametrize("mods", [(CompressionMod, fixedclipping_mod), (CompressionMod,)], ids=["with Flower's mod", "alone"])
def test_no_step_is_longer_than_the_clip_with_error_feedback(compressor: Compressor, mods: Any) -> None:
    strategy = play(fixed, compressor, *mods)
    steps = [report.step for report in strategy.reports]
    assert len(steps) == ROUNDS and max(steps) <= CLIP * (1 + 1e-5)
    assert len(strategy.reports[-1].kept) == NODES


def test_an_unbiased_quantiser_keeps_the_clip_too() -> None:
    strategy = play(fixed, QSGD(levels=1, contraction=False), CompressionMod, fixedclipping_mod, error_feedback=False)
    assert max(report.step for report in strategy.reports) <= CLIP * (1 + 1e-5)


def test_adaptive_clipping_on_the_client_learns_its_norm_over_packed_replies() -> None:
    def adaptive(strategy: Any) -> Any:
        return ADAPTIVE(strategy, 0.0, NODES, initial_clipping_norm=CLIP)

    strategy = play(adaptive, Drive(), CompressionMod, adaptiveclipping_mod)
    assert strategy.clipping_norm < CLIP and strategy.reports[-1].rejected == ()
    assert all(report.step <= CLIP * (1 + 1e-5) for report in strategy.reports)


def test_local_noise_goes_through_the_compression() -> None:
    local = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=100.0, delta=1e-5)
    client = app(lambda w: {n: t + 1 for n, t in w.items()}, [CompressionMod(Drive(), error_feedback=True), local])
    strategy = NormThreshold(compressor=Drive(), **SAMPLING)
    with InProcessGrid(client, NODES) as grid:
        result = strategy.start(grid, to_arrays(MODEL), num_rounds=2)
    assert result.arrays is not None and len(strategy.reports[-1].kept) == NODES
    assert not torch.equal(result.arrays.to_torch_state_dict()["weight"], MODEL["weight"])


@pytest.mark.parametrize("mod", [fixedclipping_mod, LocalDpMod(1.0, 1.0, 1.0, 1e-5)], ids=["fixed", "local"])
def test_the_wrong_order_ends_in_one_sentence(mod: Any) -> None:
    name = getattr(mod, "__name__", type(mod).__name__)
    with pytest.raises(
        ConfigurationError, match=rf"mods must list {name} after the compression.*mods=\[CompressionMod\(\.\.\.\), {name}\]"
    ):
        play(fixed, L1Sign(), mod, CompressionMod)
