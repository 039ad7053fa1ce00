"""Two shapes of app that break easily: a frozen backbone whose full state travels, and a strategy with a `start` of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy
from sklearn.datasets import load_digits
from torch import Tensor, nn

from flwr_robustcomp import CompressionMod, Decompressed, NormThreshold, RobustCompressed
from flwr_robustcomp.compressors import Compressor, Drive, L1Sign, TopK
from flwr_robustcomp.settings import RECIPE
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies.options import FedAvgOptions

NODES, ROUNDS = 5, 16
SAMPLING: FedAvgOptions = {"fraction_evaluate": 0.0, "min_train_nodes": NODES, "min_available_nodes": NODES}
COMPRESSORS: dict[str, Callable[[], Compressor]] = {"drive": Drive, "l1-sign": L1Sign, "top-k": lambda: TopK(ratio=0.05)}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


@functools.cache
def data() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    return torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)


def fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, lr: float) -> None:
    """Train what is not frozen with SGD in batches of 32."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(epochs):
        for start in range(0, len(labels), 32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[start : start + 32]), labels[start : start + 32])
            torch.autograd.backward(loss)
            optimizer.step()


def accuracy(arrays: ArrayRecord) -> float:
    """Return the accuracy on every third image, which no node has."""
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    images, labels = (part[::3] for part in data())
    return float((model(images).argmax(dim=1) == labels).float().mean())


@functools.cache
def pretrained() -> dict[str, Tensor]:
    """Return a network that has seen the digits 0 to 4 alone."""
    torch.manual_seed(0)
    model, (images, labels) = network(), data()
    few = (labels < 5) & (torch.arange(len(labels)) % 3 != 0)
    fit(model, images[few], labels[few], epochs=20, lr=0.1)
    return dict(model.state_dict())


def client(mods: Iterable[Any], frozen: str = "0.") -> ClientApp:
    """Train the layers whose names do not begin with ``frozen``; reply with the whole state."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = network()
        model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        own = torch.arange(len(data()[1])) % 3 != 0
        images, labels = (part[own][int(context.node_config["partition-id"]) :: NODES] for part in data())
        fit(model, images, labels, epochs=3, lr=0.1)
        metrics = MetricRecord({"num-examples": len(labels)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def trained(strategy: Strategy, mods: Iterable[Any] = ()) -> ArrayRecord:
    with InProcessGrid(client(mods), NODES) as grid:
        return strategy.start(grid, ArrayRecord(pretrained()), num_rounds=ROUNDS).arrays


@functools.cache
def dense_accuracy() -> float:
    return accuracy(trained(FedAvg(**SAMPLING)))


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("error_feedback", [True, False], ids=["feedback", "no feedback"])
def test_a_frozen_backbone_stays_bit_for_bit_and_the_head_learns(name: str, error_feedback: bool) -> None:
    compressor = COMPRESSORS[name]()
    strategy = RobustCompressed(compressor=compressor, **RECIPE, **SAMPLING)
    arrays = trained(strategy, [CompressionMod(compressor, error_feedback=error_feedback)])
    after = arrays.to_torch_state_dict()
    for layer in ("0.weight", "0.bias"):
        assert torch.equal(after[layer], pretrained()[layer]), layer
    assert not torch.equal(after["2.weight"], pretrained()["2.weight"])
    assert accuracy(arrays) > accuracy(ArrayRecord(pretrained())) + 0.1
    if name == "drive" and error_feedback:
        assert accuracy(arrays) > dense_accuracy() - 0.01


# -- a strategy with its own `start`, saving and logging -----------------------------------------------------------------------


class Saving:
    """What Flower's advanced PyTorch example adds to a strategy: a folder, the best model so far, and a log of the rounds."""

    def set_save_path(self, folder: Path) -> None:
        self.folder = folder
        self.best = 0.0
        self.log: list[float] = []

    def note(self, found: float, arrays: ArrayRecord) -> None:
        self.log.append(found)
        if found > self.best:
            self.best = found
            torch.save(arrays.to_torch_state_dict(), self.folder / "best.pt")

    def start(self: Any, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, *args: Any, **options: Any) -> Result:
        arrays, result = initial_arrays, Result()
        config = ConfigRecord()
        for number in range(1, num_rounds + 1):
            requests = self.configure_train(number, arrays, config, grid)
            replies = grid.send_and_receive(list(requests))
            aggregated, metrics = self.aggregate_train(number, replies)
            assert aggregated is not None
            arrays = aggregated
            self.note(accuracy(arrays), arrays)
            result.train_metrics_clientapp[number] = metrics or MetricRecord()
        result.arrays = arrays
        return result


class SavingFedAvg(Saving, FedAvg):
    pass


class SavingThreshold(Saving, NormThreshold):
    pass


class SavingRobust(Saving, RobustCompressed):
    pass


STRATEGIES: dict[str, Callable[[], Any]] = {
    "norm-threshold": lambda: SavingThreshold(compressor=Drive(), trim=1, **SAMPLING),
    "robust-compressed": lambda: SavingRobust(compressor=Drive(), filters="norm-clipping", trim=1, length_screen=5, **SAMPLING),
    "fed-avg": lambda: Decompressed(SavingFedAvg(**SAMPLING), compressor=Drive()),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_with_its_own_start_saves_its_best_model(name: str, tmp_path: Path) -> None:
    strategy = STRATEGIES[name]()
    strategy.set_save_path(tmp_path)
    arrays = trained(strategy, [CompressionMod(Drive(), error_feedback=True)])
    assert len(strategy.log) == len(strategy.reports) == ROUNDS
    assert strategy.log[-1] == accuracy(arrays)
    assert accuracy(ArrayRecord(torch.load(tmp_path / "best.pt"))) == strategy.best == max(strategy.log)
    assert strategy.best > dense_accuracy() - 0.03
