"""What the strategies over packed updates share: asking, screening, and giving account of a round."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Self

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity
from flwr_robustcomp.strategies.account import LEDGER_RECORD, Account
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_delta, step_length
from flwr_robustcomp.strategies.enough_nodes import Need
from flwr_robustcomp.strategies.evaluation import EvaluationReceiver
from flwr_robustcomp.strategies.final_model import with_final_model
from flwr_robustcomp.strategies.metrics import median_metrics, summed_up
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.private import check_wrapped
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
            arrays_key=self.arrayrecord_key,
        )
        own_sum = self.evaluate_metrics_aggr_fn is not median_metrics  # a function of the user's own is given the weights
        self._evaluation = EvaluationReceiver(self.weighted_by_key, weight_required=own_sum)
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

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if a round of so many nodes cannot move the model, even if every one of them replies.

        It is asked before the first round. A strategy that needs more than one reply overrides it.
        """
        require(nodes >= 1, "nodes", nodes, "at least 1")

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        **later_options: Any,
    ) -> Result:
        """Run as Flower's `start` does; a run of which no round moved the model returns the initial one.

        ``later_options`` are those that later versions of Flower have.
        """
        result = super().start(
            grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn, **later_options
        )
        return with_final_model(result, initial_arrays)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Sample as `FedAvg` does, from the nodes that are not left out; remember w_t and who was asked.

        Raises
        ------
        ConfigurationError
            In the first round, if the nodes that are sampled are too few for any round to succeed.
        QuorumError
            If the policy's patience is at its end.
        """
        check_wrapped(self)
        configure = super().configure_train

        def sample(view: Grid) -> Iterable[Message]:
            return configure(server_round, arrays, config, view)

        need = Need(self._subject(), self.check_nodes, self._largest_trim)
        return self.receiver.ask(server_round, arrays, self.account.ask(server_round, grid, self, sample, need))

    def _subject(self) -> str:
        """Return what needs a number of nodes."""
        trim = getattr(self, "trim", 0)
        return f"trim = {trim}" if trim else type(self).__name__

    def _trimming(self, trim: int) -> Self | None:
        """Return this strategy with another trim; None where it trims nobody, or by a rule that is not ours."""
        return None

    def _largest_trim(self, nodes: int) -> int | None:
        for trim in range((nodes - 1) // 2, -1, -1):
            if (other := self._trimming(trim)) is None:
                return None
            with contextlib.suppress(ConfigurationError):
                other.check_nodes(nodes)
                return trim
        return None

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Sample as `FedAvg` does; remember who was asked.

        Raises
        ------
        ConfigurationError
            If all nodes that were to train failed for one and the same reason, and no reply was ever accepted.
        """
        self.account.check()
        return self._evaluation.ask(super().configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the evaluation metrics of the replies that pass screening, and count both."""
        told = self._evaluation.screen(replies)
        if not told and not self._evaluation.rejected:
            return None
        metrics, key = [one.metrics for one in told], self.weighted_by_key
        weights = [float(str(one.get(key, 0))) for one in metrics]  # a median uses none
        result = summed_up(self.evaluate_metrics_aggr_fn, metrics, weights, key)
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
