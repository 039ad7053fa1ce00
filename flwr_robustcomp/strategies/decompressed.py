"""Any Flower strategy over compressed updates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity
from flwr_robustcomp.spans import decompress_spans
from flwr_robustcomp.strategies.account import Account
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_delta, step_length
from flwr_robustcomp.strategies.evaluation import EvaluationReceiver
from flwr_robustcomp.strategies.flower_builtin import carried_by, check_parameters, is_finite_state
from flwr_robustcomp.strategies.metrics import filled_contents, medians
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.receiver import UpdateReceiver
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.screening import Update
from flwr_robustcomp.strategies.server_step import check_step_size

__all__ = ["Decompressed"]


class Decompressed(Strategy):
    """Put screening and decompression before any of Flower's strategies.

    The inner strategy sees ordinary dense replies, w_t - gamma Q(x) for each client, and only those that passed screening.

    Parameters
    ----------
    strategy : FedAvg
        FedAvg or one of its descendants (FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan, FedAdam, ...).
    compressor : Compressor
        Equal to the clients'.
    step_size : float
        gamma; 1 where clients reply with weights.
    granularity : {"model", "array"}
        Equal to the clients'.
    uncompressed : sequence of str
        Equal to the clients'.
    on_round : callable, optional
        Called with the `RoundReport` of every round as it ends. ``kept`` are the replies handed to the inner strategy.

    policy : Policy, optional
        What follows from rejected replies.

    Attributes
    ----------
    reports : list of RoundReport
        One for each round so far.
    ledger : Ledger
        The rejections so far, by node and reason.

    Notes
    -----
    Memory is the inner strategy's: the dense replies of all clients at once. The inner strategy weights clients as it
    always does, by the number of examples that they claim. Metrics are summed up by `medians`, unless the inner strategy
    has a function of its own for them, or its own ``aggregate_evaluate``.
    """

    def __init__(
        self,
        strategy: FedAvg,
        *,
        compressor: Compressor,
        step_size: float = 1.0,
        granularity: Granularity = "model",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
    ) -> None:
        require(isinstance(strategy, FedAvg), "strategy", strategy, "a FedAvg or a descendant of it")
        check_parameters(strategy)
        check_step_size(step_size)
        self.strategy = strategy
        self.step_size = step_size
        self.receiver = UpdateReceiver(
            compressor, granularity, uncompressed, weight_key=strategy.weighted_by_key, weight_required=True
        )
        self._evaluation = EvaluationReceiver(strategy.weighted_by_key)
        self.account = Account(on_round, policy)
        self.ledger = self.account.ledger
        self.reports = self.account.reports

    def summary(self) -> None:
        """Log the configuration, the inner strategy's included."""
        LOG.info("\t├──> Decompressed %s:", type(self.strategy).__name__)
        LOG.info("\t│\t├── Compressor: %s (per %s)", self.receiver.compressor, self.receiver.granularity)
        LOG.info("\t│\t└── Step size: %g", self.step_size)
        self.strategy.summary()

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask as the inner strategy does, of the nodes that are not left out; remember w_t and who was asked."""
        grid = self.account.open(server_round, grid, self.strategy)
        return self.receiver.ask(server_round, arrays, self.strategy.configure_train(server_round, arrays, config, grid))

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, decompress, and let the inner strategy aggregate."""
        screened = self.receiver.screen(replies)
        updates = screened.accepted
        skipped = self.account.policy.shortfall(len(updates), len(screened.asked))
        if skipped is not None:
            return None, self.account.publish(RoundReport(server_round, skipped=skipped, quorum=False), screened)
        dense = self._dense(updates)
        before = {name: getattr(self.strategy, name) for name in carried_by(self.strategy) or ()}
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            arrays, metrics = self.strategy.aggregate_train(server_round, dense)
        model = None if arrays is None else self._in_model_dtypes(arrays)
        if model is None:
            skipped = "the inner strategy gave no result"
        elif not is_finite_model(model):
            skipped = "the inner strategy's result is not finite"
        elif not is_finite_state(self.strategy):
            skipped = "what the inner strategy carries to the next round is not finite"
        if skipped is not None:  # a step that was not made leaves nothing behind
            for name, value in before.items():
                setattr(self.strategy, name, value)
        report = RoundReport(
            server_round,
            kept=tuple(u.node_id for u in updates),
            skipped=skipped,
            quorum=model is not None,
            delta=median_delta(updates),
            step=step_length(self.receiver.model, model, self.receiver.layout) if model and not skipped else None,
        )
        merged = MetricRecord(dict(metrics or {}))
        if metrics and self.strategy.train_metrics_aggr_fn is FedAvg().train_metrics_aggr_fn:
            merged = medians([u.metrics for u in updates], self.strategy.weighted_by_key)
        merged.update(self.account.publish(report, screened))
        return (wire.to_arrays(model) if model and not skipped else None), merged

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask as the inner strategy does; remember who was asked."""
        return self._evaluation.ask(self.strategy.configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Sum up the replies that pass screening, and count both; the inner strategy does it where it has its own way."""
        accepted = self._evaluation.screen(replies)
        if not accepted and not self._evaluation.rejected:
            return None
        metrics, key = [one.metrics for one in accepted], self.strategy.weighted_by_key
        result = medians(metrics, key)
        if result and not self._evaluates_as_fed_avg():
            contents = filled_contents(metrics, [float(str(one[key])) for one in metrics], key)
            told = [_with_content(one.message, content) for one, content in zip(accepted, contents, strict=True)]
            result = MetricRecord(dict(self.strategy.aggregate_evaluate(server_round, told) or {}))
        result.update(self._evaluation.counts(len(accepted)))
        return result

    def _evaluates_as_fed_avg(self) -> bool:
        """Whether the inner strategy's evaluation is Flower's default, a mean weighted by claimed examples."""
        default = type(self.strategy).aggregate_evaluate is FedAvg.aggregate_evaluate
        return default and self.strategy.evaluate_metrics_aggr_fn is FedAvg().evaluate_metrics_aggr_fn

    def _dense(self, updates: Sequence[Update]) -> list[Message]:
        """Return ordinary replies of w_t - gamma Q(x), with the metrics that most clients share."""
        layout, key = self.receiver.layout, self.strategy.weighted_by_key
        w = layout.flatten(self.receiver.model)
        weights = [float(str(update.metrics[key])) for update in updates]
        alike = filled_contents([u.metrics for u in updates], weights, key)
        dense = []
        for update, content in zip(updates, alike, strict=True):
            step = decompress_spans(update.payloads, self.receiver.expected.compressor, w.dtype).mul_(self.step_size)
            content[self.strategy.arrayrecord_key] = wire.to_arrays(_for_numpy(layout.join(w - step, update.aside)))
            dense.append(_with_content(update.message, content))
        return dense

    def _in_model_dtypes(self, arrays: ArrayRecord) -> dict[str, Tensor]:
        """Return the aggregate in the model's dtypes: Flower's means of float16 and of integers come back wider."""
        model = self.receiver.model
        tensors = wire.from_arrays(arrays)
        return {name: tensors[name].to(model[name].dtype) for name in model}


def _with_content(message: Message, content: RecordDict) -> Message:
    """Return a reply of the same node with other content; the reply itself stays as it came."""
    other = copy.copy(message)
    other.content = content
    return other


def _for_numpy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that Flower's strategies, which compute in numpy, can read: bfloat16 becomes float32."""
    return {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in tensors.items()}
