"""A run in which everything that a checkpoint must keep matters: sampling, residuals, noise, momentum, evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result, Strategy

from flwr_robustcomp import QSGD, CompressionMod, from_arrays, to_arrays
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.simulations import InProcessGrid, LocalGrid
from flwr_robustcomp.strategies.options import FedAvgOptions

NODES = 8
START = {"w": torch.zeros(6), "b": torch.zeros(3)}
SAMPLING: FedAvgOptions = {
    "fraction_train": 0.5,
    "min_train_nodes": 2,
    "fraction_evaluate": 0.4,
    "min_evaluate_nodes": 2,
    "min_available_nodes": NODES,
}


class Stopped(Exception):
    """What ends a run in the middle."""


def client_app(compressor: Compressor | None = None) -> ClientApp:
    """Return an app that goes half-way to the node's own target, with error feedback."""
    app = ClientApp(mods=[CompressionMod(compressor or QSGD(levels=2), error_feedback=True)])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        partition = int(context.node_config["partition-id"])
        w = from_arrays(_arrays(message))
        target = {name: torch.arange(t.numel(), dtype=t.dtype) + partition for name, t in w.items()}
        local = {name: w[name] + 0.5 * (target[name] - w[name]) for name in w}
        metrics = MetricRecord({"num-examples": partition + 1, "loss": float(partition)})
        return Message(RecordDict({"arrays": to_arrays(local), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        loss = sum(float(t.norm()) for t in from_arrays(_arrays(message)).values())
        partition = int(context.node_config["partition-id"])
        metrics = MetricRecord({"num-examples": 1 + partition, "loss": loss + partition})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


APP = client_app()


def play(
    strategy: Strategy, *, rounds: int = 6, stop_at: int | None = None, seed: int | None = 0, grid: LocalGrid | None = None
) -> Result:
    """Run a strategy; raise `Stopped` out of the evaluation of a round, before its checkpoint."""
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (the global generator is what is tested)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        if server_round == stop_at:
            raise Stopped
        noise = float(np.random.normal())  # noqa: NPY002
        return MetricRecord({"norm": sum(float(t.norm()) for t in from_arrays(arrays).values()), "noise": noise})

    with grid or InProcessGrid(APP, NODES) as open_grid:
        return strategy.start(open_grid, to_arrays(START), num_rounds=rounds, evaluate_fn=evaluate)


def told(result: Result) -> Any:
    """Return everything in a result as plain values: bytes of the model, and histories in order."""
    histories: list[Callable[[Result], dict[int, MetricRecord]]] = [
        lambda r: r.train_metrics_clientapp,
        lambda r: r.evaluate_metrics_clientapp,
        lambda r: r.evaluate_metrics_serverapp,
    ]
    model = [(name, a.dtype, tuple(a.shape), bytes(a.data)) for name, a in result.arrays.items()]
    return model, [[(round_, list(metrics.items())) for round_, metrics in get(result).items()] for get in histories]


def _arrays(message: Message) -> ArrayRecord:
    record = message.content["arrays"]
    assert isinstance(record, ArrayRecord)
    return record
