"""Networks of every kind under attacks of every kind: backdoors in images, collusion and momentum around local epochs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flwr_robustcomp.clients import BackdoorTrigger
from flwr_robustcomp.clients.backdoor import with_trigger
from flwr_robustcomp.clients.label_attack import Poison
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.attacks import COLLUSIONS
from flwr_robustcomp.simulations.problems import Classification
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions, make_problem
from tests.checkpoints.kit import Stopped

LOCAL: dict[str, Any] = {"hidden": 4, "training": "local", "batch_size": 16, "learning_rate": 0.3, "device": "cpu"}


def _scenario(problem: dict[str, Any], **changes: Any) -> Scenario:
    return Scenario.parse(
        {
            "problem": {"name": "classification", **problem},
            "nodes": 10,
            "byzantine": 2,
            "strategy": {"name": "norm-threshold", "trim": 3},
            "rounds": 3,
            **changes,
        }
    )


@pytest.fixture
def colour(tmp_path: Path) -> Path:
    """A folder with an archive of CIFAR-10's shape."""
    rng = np.random.default_rng(0)
    images: dict[str, Any] = {
        f"x_{part}": rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for part, n in (("train", 60), ("test", 20))
    }
    np.savez(tmp_path / "cifar10.npz", **images, y_train=np.arange(60) % 10, y_test=np.arange(20) % 10)
    return tmp_path


@pytest.mark.parametrize("training", ["gradient", "local"])
@pytest.mark.parametrize("model", ["logistic", "cnn", "resnet"])
def test_every_model_trains_on_images_of_cifars_shape(model: str, training: str, colour: Path) -> None:
    network = {"model": model, "width": 2, "blocks": 1, "data": "cifar10", "data_dir": str(colour)}
    step = 0.05 if training == "gradient" else 1.0
    scenario = _scenario(
        {**network, "training": training, "batch_size": 4, "learning_rate": 0.05, "device": "cpu"},
        attack="backdoor",
        compressor="identity",
        strategy={"name": "norm-threshold", "trim": 3, "step_size": step},
    )
    records = run_scenario(scenario)
    assert [record["rejected"] for record in records[1:]] == [{}] * 3
    assert all(np.isfinite(record["loss"]) and 0 <= record["backdoor"] <= 1 for record in records)
    assert records[-1]["loss"] != records[0]["loss"]


@pytest.mark.parametrize("model", ["digits", "colour"])
def test_a_backdoor_is_trained_on_marked_images(model: str, colour: Path) -> None:
    """Against the gradient of the images marked by hand: (1, 8, 8) and (3, 32, 32)."""
    data: dict[str, Any] = {} if model == "digits" else {"data": "cifar10", "data_dir": str(colour)}
    problem = Classification(3, 0, model="logistic", device="cpu", **data)
    own = problem._images.train.take(problem._shares[1])
    marked = with_trigger(problem._pixels(own.pixels), 2)
    shape = marked.shape
    assert shape[1:] == ((1, 8, 8) if model == "digits" else (3, 32, 32))
    assert bool((marked[..., -2:, -2:] == 1).all())
    weights = {name: tensor.requires_grad_() for name, tensor in problem.initial().items()}
    logits = torch.func.functional_call(problem._module, weights, (marked,))
    torch.autograd.backward(torch.nn.functional.cross_entropy(logits, torch.full((len(marked),), 3)))
    found = problem.gradient(
        1, {name: tensor.detach() for name, tensor in weights.items()}, Poison(BackdoorTrigger(target=3, share=1.0), 0, 1)
    )
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor.grad, rtol=1e-5, atol=1e-7)


def test_the_backdoor_opens_in_a_network_with_local_epochs() -> None:
    fields: dict[str, Any] = {
        "byzantine": 4,
        "rounds": 15,
        "compressor": "identity",
        "strategy": {"name": "norm-threshold", "trim": 0},
    }
    problem = {**LOCAL, "hidden": 16}
    attacked = run_scenario(_scenario(problem, attack={"name": "backdoor", "target": 3}, **fields))[-1]
    before = run_scenario(_scenario(problem, attack={"name": "backdoor", "target": 3, "start": 100}, **fields))[-1]
    assert attacked["backdoor"] > 0.5 > before["backdoor"]
    assert attacked["accuracy"] > before["accuracy"] - 0.15


@functools.cache
def _without_liars(momentum: float) -> list[RoundRecord]:
    return run_scenario(_scenario(LOCAL, byzantine=0, client_momentum=momentum, error_feedback=True))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("attack", COLLUSIONS)
def test_colluders_meet_local_epochs_and_momentum(attack: str, momentum: float) -> None:
    scenario = _scenario(LOCAL, attack=attack, client_momentum=momentum, error_feedback=True)
    records = run_scenario(scenario)
    assert [record["rejected"] for record in records[1:]] == [{}] * 3
    assert momentum == 0 or records == run_scenario(scenario)
    clean = _without_liars(momentum)
    after = 3 if attack == "residual-pumping" else 1  # it waits for two rounds
    assert records[after]["accuracy"] != clean[after]["accuracy"] or records[after]["loss"] != clean[after]["loss"]


@pytest.mark.parametrize("attack", ["under-threshold", "little-is-enough", "mimic"])
def test_colluders_against_momentum_are_the_same_batched_and_one_by_one(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr_robustcomp.simulations import app

    problem = {"hidden": 4, "device": "cpu"}
    step = {"name": "norm-threshold", "trim": 3, "step_size": 0.5}
    scenario = _scenario(problem, attack=attack, client_momentum=0.9, compressor="identity", strategy=step)
    together = [record["loss"] for record in run_scenario(scenario)]
    monkeypatch.setattr(app.client_app, "batch", lambda *args: None)
    assert together == pytest.approx([record["loss"] for record in run_scenario(scenario)], rel=1e-5)


@pytest.mark.parametrize("training", ["gradient", "local"])
def test_a_run_with_momentum_goes_on_to_the_same_records(training: str, tmp_path: Path) -> None:
    """The momenta lie in the nodes' states, which a checkpoint must hold."""
    scenario = _scenario({**LOCAL, "training": training}, attack="inner-product", client_momentum=0.9, rounds=5)

    def observe(record: RoundRecord) -> None:
        if record["round"] == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run_scenario(scenario, checkpoint=tmp_path, observe=observe)
    records = run_scenario(scenario, checkpoint=tmp_path)
    assert records == run_scenario(scenario)
    assert records[-1] != run_scenario(scenario.varied(client_momentum=0.0))[-1]


@pytest.mark.processes
@pytest.mark.usefixtures("ray")
def test_ray_gives_the_curve_of_this_process() -> None:
    scenario = _scenario(
        {**LOCAL, "partition": "dirichlet", "alpha": 0.5}, attack="under-threshold", client_momentum=0.9, error_feedback=True
    )
    assert run_scenario(scenario, engine="ray", num_workers=2) == run_scenario(scenario)


def test_the_liars_of_these_runs_have_data_of_their_own() -> None:
    """Otherwise the tests above would show nothing."""
    scenario = _scenario(LOCAL, attack="mimic")
    assert all(make_problem(scenario).num_examples(partition) > 100 for partition in byzantine_partitions(scenario))
