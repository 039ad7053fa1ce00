from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.problems import Classification
from flwr_robustcomp.simulations.problems.folder import read_folder
from flwr_robustcomp.simulations.problems.models import ModelSpec, make_model
from flwr_robustcomp.simulations.scenario.setup import check_components, make_problem

TRAIN, TEST = 60, 20


def same(labels: Tensor, classes: int) -> Tensor:
    return labels


def shifted(labels: Tensor, classes: int) -> Tensor:
    return classes - 1 - labels


def _arrays(shape: tuple[int, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (TRAIN, *shape), dtype=np.uint8),
        "y_train": np.arange(TRAIN) % 10,
        "x_test": rng.integers(0, 256, (TEST, *shape), dtype=np.uint8),
        "y_test": np.arange(TEST) % 10,
    }


@pytest.fixture
def colour(tmp_path: Path) -> Path:
    """A folder with an archive of CIFAR-10's shape."""
    np.savez(tmp_path / "cifar10.npz", **_arrays((32, 32, 3)))
    return tmp_path


def write_idx(folder: Path, *, zipped: bool = False, shape: tuple[int, ...] = (6, 6)) -> dict[str, np.ndarray]:
    """Write MNIST's four files with small images."""
    arrays = _arrays(shape)
    names = {"train": ("x_train", "y_train"), "t10k": ("x_test", "y_test")}
    for prefix, keys in names.items():
        for key, kind in zip(keys, ("images-idx3", "labels-idx1"), strict=True):
            array = arrays[key].astype(np.uint8)
            raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(raw) if zipped else raw)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_as_written(zipped: bool, tmp_path: Path) -> None:
    arrays = write_idx(tmp_path, zipped=zipped)
    images = read_folder(tmp_path)
    assert np.array_equal(images.train.pixels.numpy(), arrays["x_train"][:, None])
    assert np.array_equal(images.test.labels.numpy(), arrays["y_test"])
    assert (images.shape, images.classes) == ((1, 6, 6), 10)


def test_an_archive_is_read_channels_first(colour: Path) -> None:
    images = read_folder(colour)
    assert images.shape == (3, 32, 32)
    assert np.array_equal(images.train.pixels.numpy(), _arrays((32, 32, 3))["x_train"].transpose(0, 3, 1, 2))
    assert float(images.scaled(images.train.pixels).max()) == 1.0


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda raw: raw[:-1], "declares"),
        (lambda raw: raw + b"x", "declares"),
        (lambda raw: b"\x00\x00\x0d" + raw[3:], "unsigned bytes"),
        (lambda raw: raw[:6], "unsigned bytes"),
        (lambda raw: b"", "unsigned bytes"),
    ],
)
def test_a_damaged_idx_file_is_one_line(damage: Any, word: str, tmp_path: Path) -> None:
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigurationError, match=word) as caught:
        read_folder(tmp_path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["missing", "pickle", "text", "labels", "float"])
def test_a_bad_archive_is_one_line(content: str, tmp_path: Path) -> None:
    arrays = _arrays((4, 4))
    if content == "missing":
        del arrays["y_test"]
    elif content == "pickle":
        arrays["y_train"] = np.array([{}] * TRAIN, dtype=object)
    elif content == "labels":
        arrays["y_train"] = arrays["y_train"][:-1]
    elif content == "float":
        arrays["x_train"] = arrays["x_train"] / 255
    np.savez(tmp_path / "a.npz", **arrays)
    if content == "text":
        (tmp_path / "a.npz").write_text("no archive")
    with pytest.raises(ConfigurationError) as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_mnist_without_folder_or_network_says_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr_robustcomp.simulations.problems import sources

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network\nat all")

    monkeypatch.setattr("flwr_datasets.FederatedDataset", offline)
    sources._load.cache_clear()
    with pytest.raises(ConfigurationError) as caught:
        sources.load_images("mnist")
    line = str(caught.value)
    assert all(word in line for word in ("--data-dir", "IDX", ".npz", "flwr-datasets", "no network at all"))
    assert "\n" not in line


@pytest.mark.parametrize("model", ["mlp", "logistic", "cnn"])
def test_stacked_gradients_are_those_of_one_by_one(model: str) -> None:
    problem = Classification(7, 0, model=model, hidden=12, width=4, device="cpu")
    weights, partitions = problem.initial(), [0, 3, 6, 5]
    relabels = [same, shifted, same, same]
    stacked = problem.gradients(partitions, weights, relabels)
    for place, (partition, relabel) in enumerate(zip(partitions, relabels, strict=True)):
        alone = problem.gradient(partition, weights, relabel)
        assert alone.keys() == weights.keys()
        for name, expected in alone.items():
            scale = float(expected.abs().max())
            torch.testing.assert_close(stacked[name][place], expected, rtol=1e-5, atol=1e-6 * scale)


def test_stacked_gradients_of_unequal_nodes_are_those_of_one_by_one() -> None:
    problem = Classification(4, 0, model="logistic", partition="sizes", sizes=[5, 9, 5, 2], device="cpu")
    assert [problem.num_examples(i) for i in range(4)] == [5, 9, 5, 2]
    weights = problem.initial()
    stacked = problem.gradients([0, 1, 2, 3], weights, [same] * 4)
    for partition in range(4):
        for name, expected in problem.gradient(partition, weights, same).items():
            torch.testing.assert_close(stacked[name][partition], expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_autograd_of_the_mean_cross_entropy() -> None:
    problem = Classification(7, 1, hidden=5, device="cpu")
    weights = {name: tensor.requires_grad_() for name, tensor in problem.initial().items()}
    images, labels = problem._own(2, same)
    hidden = functional.relu(functional.linear(images.flatten(1), weights["1.weight"], weights["1.bias"]))
    loss = functional.cross_entropy(functional.linear(hidden, weights["3.weight"], weights["3.bias"]), labels)
    torch.autograd.backward(loss)
    found = problem.gradient(2, {name: tensor.detach() for name, tensor in weights.items()}, same)
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor.grad, rtol=1e-5, atol=1e-7)


def test_batch_statistics_travel_aside_and_in_rounds(colour: Path) -> None:
    changes = {"data": "cifar10", "data_dir": str(colour), "model": "resnet", "width": 2, "blocks": 1, "device": "cpu"}
    scenario = _scenario(changes, nodes=3, byzantine=0, strategy={"name": "norm-threshold", "trim": 1, "step_size": 0.1})
    problem = make_problem(scenario)
    model = problem.initial()
    found = problem.gradient(0, model, same)
    assert list(found) == list(model)
    assert int(found["1.num_batches_tracked"]) == 1  # the new value, not a gradient
    assert not torch.equal(found["1.running_mean"], model["1.running_mean"])
    assert torch.equal(model["1.running_mean"], torch.zeros(2))  # the server's stays as it was
    last = run_scenario(scenario)[-1]
    assert last["kept"] == 2
    assert last["rejected"] == {}
    assert np.isfinite(last["loss"])


def _scenario(problem: dict[str, Any], **changes: Any) -> Scenario:
    return Scenario.parse(
        {
            "problem": {"name": "classification", "hidden": 8, **problem},
            "nodes": 6,
            "byzantine": 1,
            "attack": "shifted-labels",
            "strategy": {"name": "norm-threshold", "trim": 2, "step_size": 1.0},
            "rounds": 3,
            **changes,
        }
    )


def test_the_cnn_learns_from_a_folder(colour: Path) -> None:
    problem = {"data": "cifar10", "data_dir": str(colour), "model": "cnn", "width": 2}
    losses = [record["loss"] for record in run_scenario(_scenario(problem, byzantine=0))]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_one_by_one_and_batched_curves_agree(feedback: bool, beta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr_robustcomp.simulations import app
    from flwr_robustcomp.simulations.engines import batch

    scenario = _scenario({"device": "cpu"}, compressor="identity", error_feedback=feedback, client_momentum=beta)
    monkeypatch.setattr(batch, "_CHUNK_ENTRIES", 1500)  # two nodes at a time
    answered: list[bool] = []

    def counted(*args: Any) -> Any:
        replies = batch.train_batch(*args)
        answered.append(replies is not None)
        return replies

    monkeypatch.setattr(app.client_app, "batch", counted)
    together = [record["loss"] for record in run_scenario(scenario)]
    assert answered == [True] * 3
    monkeypatch.setattr(app.client_app, "batch", lambda *args: None)
    assert together == pytest.approx([record["loss"] for record in run_scenario(scenario)], rel=1e-6)


def test_momentum_changes_the_run_from_the_second_round_on() -> None:
    plain = run_scenario(_scenario({}, compressor="identity"))
    heavy = run_scenario(_scenario({}, compressor="identity", client_momentum=0.5))
    assert heavy[1]["loss"] == plain[1]["loss"]  # m_1 = x_1
    assert heavy[2]["loss"] != plain[2]["loss"]


def test_local_training_replies_with_weights_of_plain_sgd() -> None:
    problem = Classification(
        5, 0, model="logistic", training="local", epochs=2, batch_size=1000, learning_rate=0.5, device="cpu"
    )
    weights = problem.initial()
    expected = {name: tensor.clone() for name, tensor in weights.items()}
    for _ in range(2):  # a batch as large as the share: two steps of gradient descent
        for name, gradient in problem.gradient(1, expected, same).items():
            expected[name] = expected[name] - 0.5 * gradient
    found = problem.train(1, weights, same, round_=1)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_minibatches_follow_from_seed_round_and_partition() -> None:
    problem = Classification(5, 0, model="logistic", training="local", batch_size=16, device="cpu")
    weights = problem.initial()
    first, again, later = (problem.train(1, weights, same, round_)["1.weight"] for round_ in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_local_training_learns_through_the_whole_stack() -> None:
    scenario = _scenario(
        {"training": "local", "epochs": 1, "learning_rate": 0.1, "momentum": 0.5, "hidden": 32},
        strategy={"name": "norm-threshold", "trim": 2, "step_size": 1.0},
        error_feedback=True,
        rounds=6,
    )
    records = run_scenario(scenario)
    assert records[-1]["rejected"] == {}
    assert records[-1]["accuracy"] > 0.6 > records[0]["accuracy"]


@pytest.mark.parametrize(
    "partition", [{"partition": "iid"}, {"partition": "dirichlet", "alpha": 0.3}, {"partition": "shards", "shards": 2}]
)
def test_partitions_are_disjoint_and_nobody_is_left_out(partition: dict[str, Any]) -> None:
    problem = Classification(10, 3, hidden=4, device="cpu", **partition)
    shares = [share.tolist() for share in problem._shares]
    everything = [position for share in shares for position in share]
    assert all(shares)
    assert len(set(everything)) == len(everything)
    assert len(everything) == 1438 if partition["partition"] != "shards" else len(everything) > 1300
    again, other = (Classification(10, seed, hidden=4, device="cpu", **partition)._shares for seed in (3, 4))
    assert [share.tolist() for share in again] == shares
    assert [share.tolist() for share in other] != shares


def test_dirichlet_with_a_small_alpha_is_uneven_and_iid_is_not() -> None:
    def largest(**partition: Any) -> float:
        problem = Classification(10, 3, hidden=4, device="cpu", **partition)
        labels = problem._images.train.labels
        return float(np.mean([float(labels[s].bincount(minlength=10).max()) / len(s) for s in problem._shares]))

    assert largest(partition="dirichlet", alpha=0.1) > 0.4 > 0.25 > largest(partition="iid")


def tiny_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class ThreeClasses(nn.Module):
    """A module whose logits do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits


def test_anybodys_module_by_its_import_path() -> None:
    path = f"{__name__}:tiny_network"
    records = run_scenario(_scenario({"model": path}, byzantine=0))
    assert records[-1]["loss"] < records[0]["loss"]
    one, two, other = (make_model(ModelSpec(name=path), (1, 8, 8), 10, seed).get_parameter("1.weight") for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_making_a_model_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    make_model(ModelSpec(hidden=3), (1, 4, 4), 10, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"model": "transformer"}, ["problem.model", "cnn, logistic, mlp, resnet", "package.module:attribute"]),
        ({"model": "no_such_package:Net"}, ["problem.model", "no_such_package", "ModuleNotFoundError"]),
        ({"model": f"{__name__}:NoSuchNet"}, ["problem.model", "NoSuchNet", "AttributeError"]),
        ({"model": "builtins:dict"}, ["torch.nn.Module", "a dict"]),
        ({"model": f"{__name__}:ThreeClasses"}, ["problem.model", "10 logits"]),
        ({"data": "imagenet"}, ["problem.data", "cifar10, digits, folder, mnist"]),
        ({"data": "folder"}, ["problem.data_dir", "IDX"]),
        ({"data": "mnist", "data_dir": "/no/such/folder"}, ["data_dir", "/no/such/folder"]),
        ({"partition": "alphabet"}, ["problem.partition", "dirichlet, iid, shards, sizes"]),
        ({"partition": "dirichlet", "alpha": 0.0}, ["problem.alpha", "positive"]),
        ({"partition": "sizes", "sizes": [1, 2]}, ["problem.sizes", "6 nodes"]),
        ({"partition": "sizes", "sizes": [1, 2, 3, 4, 5, 0]}, ["problem.sizes", "at least 1"]),
        ({"sizes": [1]}, ["problem.sizes", "only"]),
        ({"training": "osmosis"}, ["problem.training", "'gradient'", "'local'"]),
        ({"epochs": 0}, ["problem.epochs", "at least 1"]),
        ({"momentum": 1.0}, ["problem.momentum", "[0, 1)"]),
        ({"device": "abacus"}, ["problem.device", "abacus"]),
        ({"eval_examples": 0}, ["problem.eval_examples", "at least 1"]),
    ],
)
def test_what_cannot_work_is_one_line(problem: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_components(_scenario(problem))
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_partition_that_leaves_a_node_empty_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"problem\.partition 'dirichlet'") as caught:
        Classification(1000, 0, hidden=4, partition="dirichlet", alpha=0.01)
    assert "\n" not in str(caught.value)


def test_metrics_are_those_of_torch_and_a_subsample_is_fixed() -> None:
    problem = Classification(7, 5, hidden=4, device="cpu")
    weights = problem.initial()
    network = make_model(ModelSpec(hidden=4), (1, 8, 8), 10, 5)
    network.load_state_dict(weights)
    train, test = problem._images.train, problem._images.test
    with torch.no_grad():
        loss = functional.cross_entropy(network(train.pixels / 16), train.labels)
        hits = network(test.pixels / 16).argmax(1) == test.labels
    assert problem.evaluate(weights) == pytest.approx({"accuracy": float(hits.double().mean()), "loss": float(loss)}, rel=1e-5)
    few = Classification(7, 5, hidden=4, eval_examples=50, device="cpu")
    assert few.evaluate(weights) == few.evaluate(weights) != problem.evaluate(weights)
