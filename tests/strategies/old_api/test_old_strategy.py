"""This package's strategies in the place of those of Flower's old API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.common import Scalar

from flwr_robustcomp import Settings, from_arrays, to_arrays
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.clients.old_api import old_client
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import NormThreshold
from flwr_robustcomp.strategies.old_api.strategy import OldStrategy
from tests.old_apps import MODEL, client_app, in_old_api, parameters, run
from tests.strategies.old_api.old_rounds import OURS, evaluated, manager, told


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_ours_give_in_the_old_api_what_they_give_in_the_new_one(make: Callable[[], Any]) -> None:
    mod = CompressionMod(L1Sign(), report_norm=2)
    old = run(
        client_app([in_old_api(mod)]), lambda: OldStrategy(make(), initial_parameters=parameters(MODEL)), rounds=3, seed=1
    )
    new = make()
    named = to_arrays({str(i): torch.from_numpy(array) for i, array in enumerate(MODEL)})
    with InProcessGrid(client_app([mod, old_client]), 4, run_config={"seed": 1}) as grid:
        result = new.start(grid, named, num_rounds=3)
    for name, tensor in from_arrays(result.arrays).items():
        assert np.array_equal(tensor.numpy(), old.models[-1][int(name)])
    for a, b in zip(old.reports, new.reports, strict=True):
        assert (a.kept, a.trimmed, a.bytes_received) == (b.kept, b.trimmed, b.bytes_received)


def test_settings_build_it() -> None:
    config: dict[str, str | int] = {
        "robustcomp.compressor": "l1-sign",
        "robustcomp.strategy.name": "norm-threshold",
        "robustcomp.strategy.trim": 1,
    }
    settings = Settings.from_run_config(config)
    strategy = OldStrategy(
        settings.make_strategy(min_train_nodes=4, min_available_nodes=4), initial_parameters=parameters(MODEL)
    )
    ran = run(client_app([in_old_api(settings.make_mod())]), lambda: strategy)
    assert [len(report.kept) for report in ran.reports] == [3, 3]


def test_config_reaches_old_clients_without_a_key_of_ours() -> None:
    def keys(config_fn: Any) -> str:
        strategy = OldStrategy(OURS["norm-threshold"](), on_fit_config_fn=config_fn)
        ((_, ins), *_rest) = strategy.configure_fit(3, parameters(MODEL), manager(4))
        assert ins.parameters == parameters(MODEL)
        return ",".join(f"{name}={value!r}" for name, value in ins.config.items())

    assert keys(None) == ""
    assert keys(lambda round_: {"lr": 0.5, "round": round_}) == "lr=0.5,round=3"
    assert keys(lambda round_: {"server-round": round_}) == "server-round=3"


def test_evaluation_on_the_server() -> None:
    seen: list[Any] = []

    def evaluate(*args: Any) -> tuple[float, dict[str, Scalar]]:
        seen.append(args)
        return 1.0, {"a": 1}

    strategy = OldStrategy(OURS["norm-threshold"](), evaluate_fn=evaluate)
    assert strategy.evaluate(2, parameters(MODEL)) == (1.0, {"a": 1})
    assert seen[0][0] == 2 and np.array_equal(seen[0][1][0], MODEL[0]) and seen[0][2] == {}
    assert OldStrategy(OURS["norm-threshold"]()).evaluate(2, parameters(MODEL)) is None


def test_ours_take_medians() -> None:
    strategy = OldStrategy(NormThreshold(compressor=L1Sign(), trim=1, min_evaluate_nodes=4, min_available_nodes=4))
    loss, metrics = evaluated(strategy, [told(2.0, accuracy=0.5)] * 3 + [told(1e9, 2**50, accuracy=0.0)])
    assert loss == 2.0 and metrics["accuracy"] == 0.5
