"""A round of Flower's old API made by hand: clients that are only named, and replies that pack equal entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg, Strategy
from flwr.serverapp.strategy import FedAvg as NewFedAvg

from flwr_robustcomp import wire
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.compressors import Compressor, L1Sign
from flwr_robustcomp.strategies import Decompressed, NormThreshold, RobustCompressed
from flwr_robustcomp.strategies.old_api.decompressed_fit import DecompressedFit
from tests.old_apps import MODEL, in_old_api, parameters

INITIAL: dict[str, Any] = {"initial_parameters": None, "min_available_clients": 4, "min_fit_clients": 4}


class Mine(FedAvg):
    """Somebody's own: counts rounds, keeps the best, doubles the step."""

    rounds = 0

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.rounds += 1
        self.results = [(proxy.node_id, res.num_examples, res.metrics) for proxy, res in results]
        self.failures = failures
        return super().aggregate_fit(server_round, results, failures)


def options(**more: Any) -> dict[str, Any]:
    return {**INITIAL, "initial_parameters": parameters(MODEL), **more}


def packing(compressor: Compressor, **more: Any) -> Any:
    return in_old_api(CompressionMod(compressor, **more))


OURS: dict[str, Callable[[], Any]] = {
    "norm-threshold": lambda: NormThreshold(compressor=L1Sign(), trim=1, min_train_nodes=4, min_available_nodes=4),
    "robust-compressed": lambda: RobustCompressed(
        compressor=L1Sign(), trim=1, filters="norm", min_train_nodes=4, min_available_nodes=4
    ),
    "reported norms": lambda: NormThreshold(
        compressor=L1Sign(), trim=1, norm="reported", min_train_nodes=4, min_available_nodes=4
    ),
    "Decompressed": lambda: Decompressed(NewFedAvg(min_train_nodes=4, min_available_nodes=4), compressor=L1Sign()),
}


class Proxy(ClientProxy):
    """A client that is only ever named."""

    def __init__(self, node: int) -> None:
        super().__init__(str(node))
        self.node_id = node

    def _no(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _no


def manager(count: int) -> SimpleClientManager:
    clients = SimpleClientManager()
    for node in range(1, count + 1):
        clients.register(Proxy(node))
    return clients


OK = Status(Code.OK, "")


def packed(x: float, **metrics: Any) -> FitRes:
    """Return the reply that packs an update of equal entries."""
    compressor = L1Sign()
    payload = compressor.compress(torch.full((16,), x))
    return FitRes(OK, Parameters([wire.packed_fields(payload, compressor)[3]], "robustcomp/l1-sign/1"), 2, metrics)


def asked(strategy: Strategy, count: int = 4, round_: int = 1) -> list[ClientProxy]:
    """Ask all of the nodes 1, 2, ...; return them in this order."""
    pairs = strategy.configure_fit(round_, parameters(MODEL), manager(count))
    return sorted((proxy for proxy, _ in pairs), key=lambda proxy: proxy.node_id)


def wrapped(inner: Strategy | None = None, **more: Any) -> DecompressedFit:
    return DecompressedFit(inner or FedAvg(**options()), compressor=L1Sign(), **more)


def moved(result: Parameters | None) -> float:
    assert result is not None
    steps = [w - v for w, v in zip(MODEL, parameters_to_ndarrays(result), strict=True)]
    return float(np.concatenate([step.ravel() for step in steps]).mean())


HOSTILE: dict[str, FitRes] = {
    "dense": FitRes(OK, parameters(MODEL), 2, {}),
    "one dense array": FitRes(OK, parameters([MODEL[0]]), 2, {}),
    "short": FitRes(OK, Parameters([b"\x00\x00"], "robustcomp/l1-sign/1"), 2, {}),
    "another codec": FitRes(OK, Parameters(packed(1.0).parameters.tensors, "robustcomp/drive/1"), 2, {}),
    "nothing": FitRes(OK, Parameters([], ""), 2, {}),
    "NaN scale": FitRes(OK, Parameters([b"\xff" * len(packed(1.0).parameters.tensors[0])], "robustcomp/l1-sign/1"), 2, {}),
    "no examples": FitRes(OK, packed(1.0).parameters, 0, {}),
    "too many examples": FitRes(OK, packed(1.0).parameters, 2**60, {}),
    "a list of examples": FitRes(OK, packed(1.0).parameters, cast(int, [1]), {}),
    "our metric": FitRes(OK, packed(1.0).parameters, 2, {"robustcomp.kept": 9}),
    "a megabyte of text": FitRes(OK, packed(1.0).parameters, 2, {"note": "x" * (2 << 20)}),
}


def average(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Return what everybody's weighted average returns."""
    total = sum(n for n, _ in metrics)
    return {"accuracy": sum(n * m["accuracy"] for n, m in metrics) / total}


def evaluated(strategy: Strategy, results: Sequence[EvaluateRes]) -> tuple[Any, dict[str, Any]]:
    """Let the nodes 1, 2, ... reply to a round's evaluation."""
    pairs = strategy.configure_evaluate(1, parameters(MODEL), manager(len(results)))
    proxies = sorted((proxy for proxy, _ in pairs), key=lambda proxy: proxy.node_id)
    return strategy.aggregate_evaluate(1, list(zip(proxies, results, strict=True)), [])


def told(loss: Any, examples: Any = 2, **metrics: Any) -> EvaluateRes:
    return EvaluateRes(OK, loss, examples, metrics)
