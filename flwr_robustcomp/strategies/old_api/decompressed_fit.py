"""Any strategy of Flower's old API over compressed updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Choice, Compressor
from flwr_robustcomp.errors import ConfigurationError, WireError, require
from flwr_robustcomp.flower import (
    LOG,
    ClientManager,
    ClientProxy,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    OldApiStrategy,
    Parameters,
    Scalar,
)
from flwr_robustcomp.old_api import WEIGHT_KEY
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.spans import decompress_spans
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_delta, step_length
from flwr_robustcomp.strategies.nodes.history import RunHistory
from flwr_robustcomp.strategies.old_api.alike_metrics import aggregated, attributes_of, restore
from flwr_robustcomp.strategies.old_api.available_clients import AvailableClients
from flwr_robustcomp.strategies.old_api.replies import evaluations, model_of, node_of, parameters_of, request_to, trained
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.replies.common import RESERVED, Metrics
from flwr_robustcomp.strategies.replies.evaluation import EvaluationReceiver
from flwr_robustcomp.strategies.replies.receiver import UpdateReceiver
from flwr_robustcomp.strategies.replies.screening import Update
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.server_step import check_step_size

__all__ = ["DecompressedFit"]

_WAITS_FOR_NOBODY = SimpleNamespace(min_available_nodes=0, min_train_nodes=0)
"""Sampling is the inner strategy's, which waits for clients itself."""


class DecompressedFit(OldApiStrategy):
    """Put screening and decompression before any strategy of ``flwr.server.strategy``; `Decompressed` of the old API.

    The inner strategy gets ordinary ``FitRes``, w_t - gamma Q(x) for each client, and only those that passed screening.

    Parameters
    ----------
    strategy : flwr.server.strategy.Strategy
        FedAvg, FedProx, FedMedian, FedAdam, a wrapper for differential privacy, or a class of your own.
    compressor, granularity, uncompressed
        As for `Decompressed`. Arrays have no names in the old API but their numbers, ``"0"``, ``"1"``, ...; PyTorch's batch
        statistics are recognised (`old_api.array_names`).
    step_size, on_round, policy
        As for `Decompressed`.

    Attributes
    ----------
    reports, ledger
        As for `Decompressed`.

    Raises
    ------
    ConfigurationError
        At construction for a bad parameter; in a round if the inner strategy sends its clients different models, whose
        updates have no common layout.

    Notes
    -----
    Rejected replies are failures to the inner strategy: ``accept_failures=False`` and the wrappers for differential privacy
    leave the model as it is then. Other attributes are the inner strategy's.

    *Metrics* reach the inner strategy as they came, but for numbers that are not finite. If it raises and the clients' metrics
    differ in kind, it is called once more with those that most clients report (`alike`): a client that leaves out a metric
    does not end the run. FedAvg of the old API weights by the examples that clients claim, and so does this.

    Examples
    --------
    >>> from flwr.server.strategy import FedAvg
    >>> from flwr_robustcomp import DecompressedFit, Drive
    >>> strategy = DecompressedFit(FedAvg(fraction_fit=0.5), compressor=Drive())
    >>> strategy.fraction_fit
    0.5
    """

    def __init__(
        self,
        strategy: OldApiStrategy,
        *,
        compressor: Compressor | Choice | Packing,
        step_size: float = 1.0,
        granularity: Granularity | None = None,
        uncompressed: Sequence[str] | None = None,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
    ) -> None:
        require(
            isinstance(strategy, OldApiStrategy),
            "strategy",
            strategy,
            "one of flwr.server.strategy (Decompressed is for those of flwr.serverapp.strategy)",
        )
        check_step_size(step_size)
        self.strategy = strategy
        self.step_size = step_size
        self.packing = Packing.of(compressor, granularity, uncompressed)
        self.receiver = UpdateReceiver(self.packing, weight_key=WEIGHT_KEY, weight_required=True)
        self._evaluation = EvaluationReceiver(WEIGHT_KEY)
        self.history = RunHistory(on_round, policy)
        self.ledger = self.history.ledger
        self.reports = self.history.reports
        self._asked: dict[str, Any] = {"train": {}, "evaluate": {}}

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the inner strategy's."""
        if name == "strategy" or name.startswith("__"):  # not yet set, while a copy is made
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Return the inner strategy's initial parameters."""
        return self.strategy.initialize_parameters(client_manager)

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, Scalar]] | None:
        """Evaluate on the server as the inner strategy does."""
        return self.strategy.evaluate(server_round, parameters)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Ask as the inner strategy does, of the nodes that are not left out; remember w_t and who was asked."""
        clients = AvailableClients(client_manager, lambda nodes, needed: self.ledger.available(server_round, nodes, needed))
        # Of a Grid and of Flower's strategies the account uses no more than these have.
        self.history.open(server_round, cast(Grid, clients), cast(FedAvg, _WAITS_FOR_NOBODY))
        asked = self.strategy.configure_fit(server_round, parameters, clients)
        if asked:
            requests = {node_of(proxy): request_to(node_of(proxy), server_round, "train") for proxy, _ in asked}
            self._asked["train"] = requests
            self.receiver.ask(server_round, model_of(_same_for_all(asked)), requests.values())
        return asked

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[Any]
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Screen, decompress, and let the inner strategy aggregate."""
        screened = self.receiver.screen(trained(self._asked["train"], results, failures, self.receiver.expected))
        updates = screened.accepted
        report = RoundReport(server_round, kept=tuple(u.node_id for u in updates), delta=median_delta(updates))
        why = self.history.policy.shortfall(len(updates), len(screened.asked))
        if why is not None:
            report = RoundReport(server_round, skipped=why, quorum=False)
            return None, _scalars(self.history.publish(report, screened))
        heard = {node_of(proxy) for proxy, _ in results}  # the others are failures already
        faults = [WireError(f"node {r.node_id} ({r.reason}): {r.detail}") for r in screened.rejected if r.node_id in heard]
        before = attributes_of(self.strategy)
        parameters: Parameters | None = None
        metrics: dict[str, Scalar] = {}
        why = "the inner strategy gave no result"
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
                dense = self._dense(results, updates)
                parameters, metrics = aggregated(self.strategy, "aggregate_fit", server_round, dense, [*failures, *faults])
        except Exception as error:
            if not screened.rejected:
                raise
            restore(before)  # Bulyan, for one, raises if too few are left; whoever is missing must not end the run
            why = f"the inner strategy raised {error!r} where replies are missing"
        model = None if parameters is None else self._in_model_dtypes(parameters)
        if parameters is None:
            report = replace(report, skipped=why, quorum=False)
        elif model is None:
            LOG.info("aggregate_fit: the inner strategy gave a model of another form, which is taken as it is")
        elif not is_finite_model(model):
            restore(before)  # a step that was not made leaves nothing behind
            report = replace(report, skipped="the inner strategy's result is not finite")
        else:
            report = replace(report, step=step_length(self.receiver.model, model, self.receiver.expected.layout))
            parameters = parameters_of(model.values())
        told = {**metrics, **_scalars(self.history.publish(report, screened))}
        return (None if report.skipped else parameters), told

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Ask as the inner strategy does; remember who was asked."""
        self.history.check()
        asked = self.strategy.configure_evaluate(server_round, parameters, client_manager)
        requests = {node_of(proxy): request_to(node_of(proxy), server_round, "evaluate") for proxy, _ in asked or ()}
        self._asked["evaluate"] = requests
        self._evaluation.ask(requests.values())
        return asked

    def aggregate_evaluate(
        self, server_round: int, results: list[tuple[ClientProxy, EvaluateRes]], failures: list[Any]
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Let the inner strategy sum up the replies that pass screening and tell a finite loss; count both."""
        accepted = self._evaluation.screen(evaluations(self._asked["evaluate"], results, failures))
        metrics = {one.node_id: one.metrics for one in accepted if isinstance(one.metrics.get("loss"), int | float)}
        told = [
            (proxy, replace(result, metrics=_told(result.metrics, metrics[node_of(proxy)])))
            for proxy, result in results
            if node_of(proxy) in metrics
        ]
        lost = [WireError("an evaluation was rejected")] * (len(results) - len(told))
        loss, own = aggregated(self.strategy, "aggregate_evaluate", server_round, told, [*failures, *lost])
        return loss, {**own, **_scalars(self._evaluation.counts(len(told)))}

    def _dense(self, results: list[tuple[ClientProxy, FitRes]], updates: Sequence[Update]) -> list[tuple[ClientProxy, FitRes]]:
        """Return ordinary results, by ascending node id, of w_t - gamma Q(x)."""
        layout, by_node = self.receiver.expected.layout, {node_of(proxy): (proxy, result) for proxy, result in results}
        w = layout.flatten(self.receiver.model)
        dense = []
        for update in updates:
            proxy, result = by_node[update.node_id]
            step = decompress_spans(update.payloads, self.receiver.expected.spans, w.dtype).mul_(self.step_size)
            parameters = parameters_of(layout.join(w - step, update.aside).values())
            dense.append((proxy, replace(result, parameters=parameters, metrics=_told(result.metrics, update.metrics))))
        return dense

    def _in_model_dtypes(self, parameters: Parameters) -> dict[str, Tensor] | None:
        """Return the aggregate in the model's dtypes, which means of integers do not have; None if it has another form."""
        model = self.receiver.model
        tensors = [wire.read_dense(Array("", (), parameters.tensor_type, tensor)) for tensor in parameters.tensors]
        if [tensor.shape for tensor in tensors] != [own.shape for own in model.values()]:
            return None
        return {name: _as_dtype(tensor, own.dtype) for (name, own), tensor in zip(model.items(), tensors, strict=True)}


def _as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    whole = tensor.is_floating_point() and not dtype.is_floating_point and not dtype.is_complex
    return (tensor.round() if whole else tensor).to(dtype)


def _same_for_all(asked: Sequence[tuple[ClientProxy, FitIns]]) -> Parameters:
    """Return the model that all clients get."""
    first: Parameters = asked[0][1].parameters
    for proxy, ins in asked[1:]:
        if ins.parameters is not first and ins.parameters != first:
            raise ConfigurationError(
                f"configure_fit must send one model to all clients, got another for client {proxy.cid[:64]!r}: "
                "updates of different models cannot be added up"
            )
    return first


def _told(metrics: dict[str, Scalar], screened: Metrics) -> dict[str, Scalar]:
    """Return a client's metrics but for our own and for numbers that are not finite."""
    return {
        name: value
        for name, value in metrics.items()
        if not name.startswith(RESERVED) and (name in screened or not isinstance(value, int | float) or isinstance(value, bool))
    }


def _scalars(record: MetricRecord) -> dict[str, Scalar]:
    """Return the metrics that are single numbers; the old API has no lists."""
    return {name: value for name, value in record.items() if not isinstance(value, list)}
