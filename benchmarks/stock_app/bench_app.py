"""An ordinary pair of Flower apps whose nodes do no work: a round's time is the engine's, the wire's and the strategy's.

The run config says which replies come back (``form``):

``echo``
    The arrays as received, with FedAvg. An engine that keeps a shard of nodes in one process then replies with one and the
    same bytes object for all of them.
``fresh``
    The arrays back to front, with FedAvg: bytes of each node's own, as after any real training, for the price of one copy.
``compressed``
    As ``fresh``, through ``CompressionMod(L1Sign())``, with ``NormThreshold``.
``regression``
    The scenario in the run config, by the package's own apps: the paper's regression, whose nodes have 20 rows each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp import CompressionMod, L1Sign, NormThreshold
from flwr_robustcomp.simulations import app as scenario
from flwr_robustcomp.simulations.engines.batch import BatchClientApp
from flwr_robustcomp.simulations.scenario import RunConfig

FORMS = ("echo", "fresh", "compressed", "regression")
"""Values of ``form``."""

_compression = CompressionMod(L1Sign())


def _mod_of_form(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Do what the run config asks for; mods cannot be listed there."""
    if context.run_config["form"] == "regression":
        return scenario.client_app(message, context)
    if context.run_config["form"] == "compressed":
        return _compression(message, context, call_next)
    return call_next(message, context)


def _batch(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message] | None:
    """Pass on what our grids ask of a scenario; stock Flower never asks."""
    return scenario.client_app.batch(messages, contexts) if contexts[0].run_config["form"] == "regression" else None


client_app = BatchClientApp(_batch)
server_app = ServerApp()


@client_app.train(mods=[_mod_of_form])
def train(message: Message, context: Context) -> Message:
    """Reply without any computation."""
    arrays = message.content["arrays"]
    if context.run_config["form"] != "echo" and isinstance(arrays, ArrayRecord):
        arrays = ArrayRecord({name: _reversed(array) for name, array in arrays.items()})
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def _reversed(array: Array) -> Array:
    """Return the entries back to front: one copy, and no entry's bytes are computed anew."""
    size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
    start = len(array.data) - size  # the npy header stays as it is
    entries = np.frombuffer(array.data, array.dtype, offset=start)
    return Array(array.dtype, array.shape, array.stype, array.data[:start] + entries[::-1].tobytes())


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; write the time at which each ended, in seconds of this process's clock, as a JSON list."""
    config, stamps = context.run_config, list[float]()
    if config["form"] == "regression":
        scenario.serve(grid, context, lambda record: stamps.append(time.perf_counter()))
    else:
        _without_work(grid, config, stamps)
    Path(str(config["stamps"])).write_text(json.dumps(stamps), encoding="utf-8")


def _without_work(grid: Grid, config: RunConfig, stamps: list[float]) -> None:
    nodes, trim = int(config["nodes"]), int(config["trim"])
    rng = np.random.default_rng(0)
    shapes = json.loads(str(config["shapes"]))
    model = ArrayRecord({f"w{i}": Array(rng.standard_normal(shape, dtype=np.float32)) for i, shape in enumerate(shapes)})
    # No round may run on a part of the nodes, which stock simulation registers gradually.
    sampling: dict[str, Any] = {"fraction_evaluate": 0.0, "min_train_nodes": nodes, "min_available_nodes": nodes}
    compressed = config["form"] == "compressed"
    strategy = NormThreshold(compressor=L1Sign(), trim=trim, **sampling) if compressed else FedAvg(**sampling)

    def stamp(server_round: int, arrays: ArrayRecord) -> None:
        stamps.append(time.perf_counter())

    strategy.start(grid, model, num_rounds=int(config["rounds"]), evaluate_fn=stamp)
