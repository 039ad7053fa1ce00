"""A strategy of the new API, ours with its filters, as one of Flower's old API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from flwr.app import ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from flwr_robustcomp import wire
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import (
    ClientManager,
    ClientProxy,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    OldApiStrategy,
    Parameters,
    Scalar,
    parameters_to_ndarrays,
)
from flwr_robustcomp.strategies.old_api.available_clients import AvailableClients
from flwr_robustcomp.strategies.old_api.replies import evaluations, model_of, node_of, parameters_of, trained
from flwr_robustcomp.strategies.replies.receiver import UpdateReceiver

__all__ = ["OldStrategy"]

ConfigFn = Callable[[int], dict[str, Scalar]]
EvaluateFn = Callable[[int, list[Any], dict[str, Scalar]], tuple[float, dict[str, Scalar]] | None]

_ROUND = "server-round"


class OldStrategy(OldApiStrategy):
    """Let a strategy of the new API work for ``flwr.server.ServerApp(server_fn=...)`` and its old clients.

    Parameters
    ----------
    strategy : CompressedStrategy or Decompressed
        `NormThreshold`, `RobustCompressed`, ..., what `Settings.make_strategy` returns, or a descendant of your own.
        Sampling is set there: ``fraction_train``, ``min_available_nodes``, ...
    initial_parameters : Parameters, optional
        As for FedAvg of the old API. Without it Flower takes those of a random client, whoever that is.
    evaluate_fn : callable, optional
        As for FedAvg of the old API: round, arrays and config to loss and metrics, on the server.
    on_fit_config_fn, on_evaluate_config_fn : callable, optional
        As for FedAvg of the old API: round to the ``config`` of ``fit`` and of ``evaluate``.

    Attributes
    ----------
    strategy : Strategy
        The strategy; its other attributes, ``reports`` and ``ledger`` among them, are this one's too.

    Raises
    ------
    ConfigurationError
        If the strategy does not read packed replies.

    Notes
    -----
    Metrics of a round are the strategy's: medians over the clients by default, not means weighted by claimed examples. Metrics
    that are no numbers are not aggregated. Checkpoints (`Checkpointed`) need the new API's server.

    Examples
    --------
    >>> from flwr_robustcomp import Drive, NormThreshold, OldStrategy
    >>> strategy = OldStrategy(NormThreshold(compressor=Drive(), trim=1, fraction_train=0.5))
    >>> strategy.fraction_train
    0.5
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        initial_parameters: Parameters | None = None,
        evaluate_fn: EvaluateFn | None = None,
        on_fit_config_fn: ConfigFn | None = None,
        on_evaluate_config_fn: ConfigFn | None = None,
    ) -> None:
        receiver = getattr(strategy, "receiver", None)
        allowed = "a strategy of flwr_robustcomp (DecompressedFit is for those of flwr.server.strategy)"
        require(isinstance(receiver, UpdateReceiver), "strategy", strategy, allowed)
        self.strategy = strategy
        self.initial_parameters = initial_parameters
        self.evaluate_fn = evaluate_fn
        self.on_fit_config_fn = on_fit_config_fn
        self.on_evaluate_config_fn = on_evaluate_config_fn
        self._asked: dict[str, dict[int, Message]] = {"train": {}, "evaluate": {}}

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the strategy's."""
        if name == "strategy" or name.startswith("__"):  # not yet set, while a copy is made
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Return the initial parameters; log the configuration."""
        self.strategy.summary()
        return self.initial_parameters

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, Scalar]] | None:
        """Evaluate on the server, if there is a function for it."""
        return None if self.evaluate_fn is None else self.evaluate_fn(server_round, parameters_to_ndarrays(parameters), {})

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Ask as the strategy does."""
        config = {} if self.on_fit_config_fn is None else self.on_fit_config_fn(server_round)
        asked = self._ask("train", server_round, parameters, config, client_manager)
        return [(proxy, FitIns(model, own)) for proxy, model, own in asked]

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[Any]
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Let the strategy screen, filter and aggregate."""
        expected = self.strategy.receiver.expected  # type: ignore[attr-defined]  # checked at construction
        replies = trained(self._asked["train"], results, failures, expected)
        arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        return (None if arrays is None else parameters_of(wire.from_arrays(arrays).values())), _scalars(metrics)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Ask as the strategy does."""
        config = {} if self.on_evaluate_config_fn is None else self.on_evaluate_config_fn(server_round)
        asked = self._ask("evaluate", server_round, parameters, config, client_manager)
        return [(proxy, EvaluateIns(model, own)) for proxy, model, own in asked]

    def aggregate_evaluate(
        self, server_round: int, results: list[tuple[ClientProxy, EvaluateRes]], failures: list[Any]
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Let the strategy sum up; the loss is one of its metrics."""
        replies = evaluations(self._asked["evaluate"], results, failures)
        metrics = _scalars(self.strategy.aggregate_evaluate(server_round, replies))
        loss = metrics.pop("loss", None)
        return (loss if isinstance(loss, int | float) else None), metrics

    def _ask(
        self, kind: str, server_round: int, parameters: Parameters, config: Mapping[str, Scalar], manager: ClientManager
    ) -> list[tuple[ClientProxy, Parameters, dict[str, Scalar]]]:
        """Return who is asked, with which model and config; remember the messages that the strategy would send."""
        model = model_of(parameters)
        clients = AvailableClients(manager, lambda nodes, _needed: nodes)
        configure = self.strategy.configure_train if kind == "train" else self.strategy.configure_evaluate
        # Of a Grid strategies use no more than the node ids when they sample.
        messages = list(configure(server_round, model, ConfigRecord(dict(config)), cast(Grid, clients)))
        self._asked[kind] = {message.metadata.dst_node_id: message for message in messages}
        by_node = {node_of(proxy): proxy for proxy in clients.all().values()}
        asked = []
        for message in messages:
            if (proxy := by_node.get(message.metadata.dst_node_id)) is not None:  # it may have left meanwhile
                sent = next(iter(message.content.array_records.values()), model)
                own = {name: x for record in message.content.config_records.values() for name, x in record.items()}
                if _ROUND not in config:
                    own.pop(_ROUND, None)  # the new API's; an old client may take no key that it does not know
                same = parameters if sent == model else parameters_of(wire.from_arrays(sent).values())
                asked.append((proxy, same, cast(dict[str, Scalar], own)))
        return asked


def _scalars(record: MetricRecord | None) -> dict[str, Scalar]:
    """Return the metrics that are single numbers; the old API has no lists."""
    items: Iterable[tuple[str, Any]] = () if record is None else record.items()
    return {name: value for name, value in items if not isinstance(value, list)}
