"""What the strategies over packed updates share: asking, screening, and giving account of a round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity
from flwr_robustcomp.strategies.account import LEDGER_RECORD, Account
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_delta, step_length
from flwr_robustcomp.strategies.evaluation import EvaluationReceiver
from flwr_robustcomp.strategies.metrics import median_metrics, summed_up
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.receiver import UpdateReceiver
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.screening import Screened, Update

__all__ = ["CompressedStrategy"]


class CompressedStrategy(FedAvg):
    """Base of the strategies that aggregate packed updates; sampling, evaluation and callbacks are `FedAvg`'s.

    Parameters
    ----------
    compressor : Compressor
        Equal to the clients'.
    granularity : {"model", "array"}
        Equal to the clients'.
    uncompressed : sequence of str
        Equal to the clients'.
    on_round : callable, optional
        Called with the `RoundReport` of every training round as it ends.
    norm_order : float, optional
        The order of the norm that clients must report.
    weight_required : bool
        Whether a reply must count its examples.
    policy : Policy, optional
        What follows from rejected replies.
    **fedavg_options
        Passed to `FedAvg`. Where no function of your own is given, the clients' metrics are summed up by `median_metrics`.

    Attributes
    ----------
    ledger : Ledger
        The rejections so far, by node and reason.
    reports : list of RoundReport
        One for each round so far.
    """

    def __init__(
        self,
        *,
        compressor: Compressor,
        granularity: Granularity = "model",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        on_round: Callable[[RoundReport], None] | None = None,
        norm_order: float | None = None,
        weight_required: bool = False,
        policy: Policy | None = None,
        **fedavg_options: Any,
    ) -> None:
        for name in ("train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"):
            fedavg_options[name] = fedavg_options.get(name) or median_metrics
        super().__init__(**fedavg_options)
        self.receiver = UpdateReceiver(
            compressor,
            granularity,
            uncompressed,
            norm_order=norm_order,
            weight_key=self.weighted_by_key,
            weight_required=weight_required,
        )
        self._evaluation = EvaluationReceiver(self.weighted_by_key)
        self.account = Account(on_round, policy)
        self.policy = self.account.policy
        self.ledger = self.account.ledger
        self.reports = self.account.reports

    def state(self) -> RecordDict:
        """Return what a checkpoint must keep of this strategy; a strategy that carries more between rounds adds it."""
        return RecordDict({LEDGER_RECORD: self.account.state()})

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError` where it holds no ledger."""
        self.account.restore(state.get(LEDGER_RECORD))

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Sample as `FedAvg` does, from the nodes that are not left out; remember w_t and who was asked."""
        grid = self.account.open(server_round, grid, self)
        return self.receiver.ask(server_round, arrays, super().configure_train(server_round, arrays, config, grid))

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Sample as `FedAvg` does; remember who was asked."""
        return self._evaluation.ask(super().configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the evaluation metrics of the replies that pass screening, and count both."""
        told = self._evaluation.screen(replies)
        if not told and not self._evaluation.rejected:
            return None
        metrics, key = [one.metrics for one in told], self.weighted_by_key
        result = summed_up(self.evaluate_metrics_aggr_fn, metrics, [float(str(one[key])) for one in metrics], key)
        result.update(self._evaluation.counts(len(told)))
        return result

    def conclude(
        self,
        report: RoundReport,
        screened: Screened,
        model: dict[str, Tensor],
        kept: Sequence[Update],
        weights: Sequence[float],
    ) -> tuple[ArrayRecord | None, MetricRecord]:
        """Publish the report of a round; return what `aggregate_train` returns: the new model, if it is finite.

        Parameters
        ----------
        report : RoundReport
            Who was kept and who was dropped.
        screened : Screened
            The round's replies. Metrics are those of all accepted ones: liars who are fewer than half of these can be the
            majority of the kept, where a filter spends its budget on honest updates.
        model : dict of str to Tensor
            w_{t+1}.
        kept : sequence of Update
            What went into the model.
        weights : sequence of float
            Its weights, for a metrics function of the user's own; the dropped have the weight 0 there.
        """
        if not is_finite_model(model):
            return self.skip(report, screened, "the step overflows the model's dtype", quorum=True)
        step = step_length(self.receiver.model, model, self.receiver.layout)
        accepted = screened.accepted
        own = self.account.publish(replace(report, delta=median_delta(accepted), step=step), screened)
        weight_of = {update.node_id: weight for update, weight in zip(kept, weights, strict=True)}
        told = [weight_of.get(update.node_id, 0.0) for update in accepted]
        metrics = summed_up(self.train_metrics_aggr_fn, [u.metrics for u in accepted], told, self.weighted_by_key)
        metrics.update(own)
        return wire.to_arrays(model), metrics

    def skip(self, report: RoundReport, screened: Screened, why: str, *, quorum: bool = False) -> tuple[None, MetricRecord]:
        """Publish the report of a round that leaves the model as it is; return what `aggregate_train` returns."""
        return None, self.account.publish(replace(report, skipped=why, quorum=quorum), screened)
