"""Somebody's Flower app in the old API: a client with a model in a list, and a server function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common import Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import Strategy

from flwr_robustcomp.clients.old_api import is_old, through_old_api
from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations import InProcessGrid

NDArrays = list[Any]

MODEL: NDArrays = [np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), np.zeros(4, dtype=np.float32)]


class Client(NumPyClient):
    """Moves half-way to its own target, the square of its partition id."""

    def __init__(self, partition: int, metrics: dict[str, Any]) -> None:
        self.partition = partition
        self.metrics = metrics
        self.config: dict[str, Any] = {}

    def fit(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[NDArrays, int, dict[str, Any]]:
        trained = [w + (0.5 * (self.partition**2 - w)).astype(w.dtype) for w in parameters]
        return trained, self.partition + 1, {**self.metrics, "keys": ",".join(sorted(config))}

    def evaluate(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        return float(np.abs(parameters[0]).mean()), 5, {"accuracy": 0.5, **self.metrics}


def client_app(
    mods: Sequence[Mod] = (),
    client: Callable[[int], NumPyClient] = lambda partition: Client(partition, {"train-loss": float(partition)}),
) -> ClientApp:
    """Return an app of the old API around a client for each partition."""

    def client_fn(context: Context) -> Any:
        return client(int(context.node_config["partition-id"])).to_client()

    return ClientApp(client_fn, mods=list(mods))


def in_old_api(mod: Any) -> Mod:
    """Return a mod that works on messages of both APIs."""

    def wrapped(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        return through_old_api(mod, message, context, call_next) if is_old(message) else mod(message, context, call_next)

    return wrapped


def parameters(model: NDArrays) -> Parameters:
    return ndarrays_to_parameters(model)


class OneByOne(InProcessGrid):
    """The old server sends from a thread for each client; the nodes of one process reply one after the other."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._lock = threading.Lock()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        with self._lock:
            return list(super().send_and_receive(messages, timeout=timeout))


def run(app: ClientApp, make: Callable[[], Strategy], *, nodes: int = 4, rounds: int = 2, **run_config: Any) -> Any:
    """Run a ServerApp of the old API in this process; return the strategy that it ran, with the last model as ``final``."""
    made: list[Any] = []

    def server_fn(context: Context) -> ServerAppComponents:
        made.append(_remembering(make()))
        return ServerAppComponents(strategy=made[0], config=ServerConfig(num_rounds=rounds))

    with OneByOne(app, nodes, run_config=run_config) as grid:
        ServerApp(server_fn=server_fn)(grid, server_context(grid.run.run_id, run_config))
    return made[0]


def _remembering(strategy: Any) -> Any:
    """Let a strategy's server-side evaluation keep the model of each round."""
    strategy.models = []

    def evaluate(server_round: int, parameters: Parameters) -> None:
        strategy.models.append(parameters_to_ndarrays(parameters))

    strategy.evaluate = evaluate
    return strategy
