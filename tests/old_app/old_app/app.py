"""A NumPyClient and a server function: with their strategy over packed replies, or with one of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from flwr.client import Client, ClientApp, NumPyClient
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import Context, Message, NDArrays, Scalar, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg, Strategy

from flwr_robustcomp import Settings, configured_mod
from flwr_robustcomp.clients.old_api import is_old, through_old_api
from flwr_robustcomp.strategies.old_api.decompressed_fit import DecompressedFit
from flwr_robustcomp.strategies.old_api.strategy import OldStrategy

NODES = 4


class HalfWay(NumPyClient):
    """Moves half-way to its own target."""

    def __init__(self, target: float) -> None:
        self.target = target

    def fit(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[NDArrays, int, dict[str, Scalar]]:
        return [w + (0.5 * (self.target - w)).astype(w.dtype) for w in parameters], 1, {"target": self.target}

    def evaluate(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[float, int, dict[str, Scalar]]:
        return float(np.abs(parameters[0] - self.target).mean()), 1, {}


def client_fn(context: Context) -> Client:
    return HalfWay(float(context.node_config["partition-id"]) ** 2).to_client()


def compress(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    if is_old(message):
        return through_old_api(configured_mod, message, context, call_next)
    return configured_mod(message, context, call_next)


client = ClientApp(client_fn, mods=[compress])


def server_fn(context: Context) -> ServerAppComponents:
    lines: list[str] = []

    def evaluate(server_round: int, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[float, dict[str, Scalar]]:
        lines.append(json.dumps({"round": server_round, "model": parameters[0].tolist()}))
        Path(str(context.run_config["out"])).write_text("\n".join(lines), encoding="utf-8")
        return 0.0, {}

    initial = ndarrays_to_parameters([np.linspace(-0.9, 0.9, 64, dtype=np.float32)])
    options: dict[str, Any] = {"initial_parameters": initial, "evaluate_fn": evaluate}
    settings, how = Settings.from_run_config(context.run_config), context.run_config["how"]
    strategy: Strategy = FedAvg(fraction_evaluate=0.0, min_fit_clients=NODES, min_available_clients=NODES, **options)
    if how == "decompressed":
        strategy = DecompressedFit(strategy, compressor=settings.make_packing())
    if how == "ours":
        strategy = OldStrategy(settings.make_strategy(min_train_nodes=NODES, min_available_nodes=NODES), **options)
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=int(context.run_config["rounds"])))


server = ServerApp(server_fn=server_fn)
