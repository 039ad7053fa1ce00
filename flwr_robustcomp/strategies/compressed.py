"""The round that all strategies over packed updates share, written once: ask, screen, aggregate, step, give account."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, Unpack

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Choice, Compressor
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_aside, median_delta, project, step_length
from flwr_robustcomp.strategies.asked import Asked
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.flower.final_model import with_final_model
from flwr_robustcomp.strategies.flower.private import check_wrapped
from flwr_robustcomp.strategies.nodes.enough_nodes import Need
from flwr_robustcomp.strategies.nodes.history import RunHistory
from flwr_robustcomp.strategies.options import FedAvgOptions, check_options
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.replies.evaluation import EvaluationReceiver
from flwr_robustcomp.strategies.replies.metrics import median_metrics, summed_up
from flwr_robustcomp.strategies.replies.receiver import UpdateReceiver
from flwr_robustcomp.strategies.replies.screening import Screened
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.resumable import Resumable
from flwr_robustcomp.strategies.round import Outcome, Round, SkippedRound, check_outcome

__all__ = ["CompressedStrategy"]


class CompressedStrategy(Asked, Resumable, FedAvg, ABC):
    """Base of the strategies that aggregate packed updates; sampling, evaluation and callbacks are `FedAvg`'s.

    A strategy of one's own is one method, `aggregate`: from a `Round` to an `Outcome`. Screening, the quorum, the check that
    the new model is finite, the report, the metrics and what a checkpoint keeps are written here, once, for all of them.

    Parameters
    ----------
    compressor, granularity, uncompressed
        Those of `Packing`, equal to the clients'; or a `Packing` as ``compressor``.
    on_round : callable, optional
        Called with the `RoundReport` of every training round as it ends.
    policy : Policy, optional
        What follows from rejected replies.
    norm_order, weight_required : float, bool
        Of the norm that clients must report, and whether a reply must count its examples; a strategy's to set.
    downlink : Downlink, optional
        How the model travels to the nodes; by default dense, as Flower sends it.
    **fedavg_options
        Passed to `FedAvg`. Where no function of your own is given, the clients' metrics are summed up by `median_metrics`.

    Attributes
    ----------
    packing : Packing
        How updates travel.
    ledger : Ledger
        The rejections so far, by node and reason.
    reports : list of RoundReport
        One for each round so far.
    carried : mapping of str to Tensor
        What the last `Outcome` left for the next round: vectors of shape (d,).
    trim : int or float
        How many Byzantine nodes the strategy is for; 0 where it trims nobody.
    radius : float or None
        New models are projected onto the l2 ball of this radius about the origin.
    seed : int or None
        Of what the strategy draws; None where it draws nothing. Checkpoints keep it.

    Raises
    ------
    ConfigurationError
        For an option that there is not, with the nearest one that there is, or a value out of range.

    Examples
    --------
    >>> from flwr_robustcomp import strategies
    >>> class Mean(strategies.CompressedStrategy):
    ...     def aggregate(self, round_, state):
    ...         weights = [1 / len(round_)] * len(round_)
    ...         return strategies.Outcome(round_.sum(weights), weights)
    """

    trim: int | float = 0
    radius: float | None = None

    def __init__(
        self,
        *,
        compressor: Compressor | Choice | Packing,
        granularity: Granularity | None = None,
        uncompressed: Sequence[str] | None = None,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
        norm_order: float | None = None,
        weight_required: bool = False,
        downlink: Downlink | None = None,
        **fedavg_options: Unpack[FedAvgOptions],
    ) -> None:
        check_options(type(self), fedavg_options)
        fedavg_options["train_metrics_aggr_fn"] = fedavg_options.get("train_metrics_aggr_fn") or median_metrics
        fedavg_options["evaluate_metrics_aggr_fn"] = fedavg_options.get("evaluate_metrics_aggr_fn") or median_metrics
        super().__init__(**fedavg_options)
        self.packing = Packing.of(compressor, granularity, uncompressed)
        self.receiver = UpdateReceiver(
            self.packing,
            norm_order=norm_order,
            weight_key=self.weighted_by_key,
            weight_required=weight_required,
            arrays_key=self.arrayrecord_key,
        )
        own_sum = self.evaluate_metrics_aggr_fn is not median_metrics  # a function of the user's own is given the weights
        self._evaluation = EvaluationReceiver(self.weighted_by_key, weight_required=own_sum)
        self.history = RunHistory(on_round, policy)
        self.outgoing = Outgoing(downlink, self.arrayrecord_key, self.history)
        self.policy = self.history.policy
        self.ledger = self.history.ledger
        self.reports = self.history.reports

    @abstractmethod
    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        """Decide what a round makes of the model.

        Parameters
        ----------
        round_ : Round
            What was accepted.
        state : mapping of str to Tensor
            The last round's `Outcome.state`; empty at the start.

        Returns
        -------
        Outcome
            The step, and what each update counted.

        Raises
        ------
        SkippedRound
            If nothing can be decided; so does a `ConfigurationError`, with its own words as the reason.
        """

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, ask for the quorum, `aggregate`, step, project; give account of it.

        Returns
        -------
        (ArrayRecord or None, MetricRecord)
            The new model, None where the round leaves it as it is; the metrics of all accepted replies and of the report.
        """
        receiver, screened = self.receiver, self.receiver.screen(self.outgoing.collect(replies))
        report, accepted = self.outgoing.traffic.account(RoundReport(server_round)), screened.accepted
        if (why := self.policy.shortfall(len(accepted), len(screened.asked))) is not None:
            return self._skip(report, screened, why, quorum=False)
        expected, policy, rejected = receiver.expected, self.policy, screened.rejected
        layout, spans, left_out = expected.layout, expected.spans, self.history.left_out
        round_ = Round(server_round, self.packing, layout, spans, receiver.model, accepted, rejected, policy, left_out)
        try:
            # Copies: a rule that writes to its state must not change what an overflow leaves behind.
            outcome = self.aggregate(round_, {name: vector.clone() for name, vector in self.carried.items()})
        except SkippedRound as skipped:
            report = replace(report, trimmed=skipped.trimmed, norms=skipped.norms)
            return self._skip(report, screened, str(skipped), quorum=False)
        except ConfigurationError as error:
            return self._skip(report, screened, str(error), quorum=False)

        if (why := check_outcome(outcome, round_, type(self).__name__)) is not None:
            return self._skip(report, screened, why)
        weight_of = dict(zip(round_.nodes, outcome.weights, strict=True))
        report = replace(
            report,
            kept=tuple(node for node, weight in weight_of.items() if weight > 0),
            trimmed={node: outcome.norms.get(node, 0.0) for node, weight in weight_of.items() if weight <= 0},
            threshold=outcome.threshold,
            norms=dict(outcome.norms),
            delta=median_delta(accepted),
            weakened=outcome.weakened,
            survived=dict(outcome.survived),
            spread=outcome.spread,
        )
        if not is_finite_model(outcome.state):
            return self._skip(report, screened, "what the step carries overflows")
        w = project(layout.flatten(receiver.model).sub_(outcome.step, alpha=outcome.step_size), self.radius)
        # Medians are over all accepted replies: where a filter spends its trim on honest ones, liars can be most of the kept.
        model = layout.join(w, median_aside(accepted, layout) if outcome.aside is None else outcome.aside)
        if not is_finite_model(model):
            return self._skip(report, screened, "the step overflows the model's dtype")
        self.carried = outcome.state  # a step that was not made leaves nothing behind
        report = replace(report, step=step_length(receiver.model, model, layout))
        return wire.to_arrays(model), self._publish(report, screened, weight_of)

    def _publish(self, report: RoundReport, screened: Screened, weight_of: Mapping[int, float]) -> MetricRecord:
        """Publish the report of a round that moved the model; return the metrics of its clients and its own."""
        own = self.history.publish(report, screened)
        weights = [weight_of[update.node_id] for update in screened.accepted]
        told = [update.metrics for update in screened.accepted]
        metrics = summed_up(self.train_metrics_aggr_fn, told, weights, self.weighted_by_key)
        metrics.update(own)
        return metrics

    def _skip(self, report: RoundReport, screened: Screened, why: str, *, quorum: bool = True) -> tuple[None, MetricRecord]:
        """Publish the report of a round that leaves the model as it is; return what `aggregate_train` returns."""
        return None, self.history.publish(replace(report, kept=(), skipped=why, quorum=quorum), screened)

    def draw_from(self, seed: int) -> None:
        """Set the seed, unless nothing is drawn."""
        self.seed = None if self.seed is None else seed

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
        """Run as Flower's `start` does, with later versions' options; the initial model stays where no round moves it."""
        self.outgoing.begin(timeout)
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
        asked = self.history.ask(server_round, grid, self, sample, need)
        return self.outgoing.pack(arrays, self.receiver.ask(server_round, arrays, asked), grid)

    def _subject(self) -> str:
        """Return what needs a number of nodes."""
        return f"trim = {self.trim}" if self.trim else type(self).__name__

    def with_trim(self, trim: int) -> Self:
        """Return this strategy for another number of Byzantine nodes; to be asked what it needs, and not to be run."""
        (other := copy.copy(self)).trim = trim
        return other

    def _largest_trim(self, nodes: int) -> int | None:
        """Return the largest trim that works with so many replies; None where no trim does, or there is none to set."""
        if not self.trim:
            return None
        for trim in range((nodes - 1) // 2, -1, -1):
            other = self.with_trim(trim)
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
        self.history.check()
        asked = super().configure_evaluate(server_round, arrays, config, grid)
        return self.outgoing.pack(arrays, self._evaluation.ask(asked), grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the evaluation metrics of the replies that pass screening, and count both."""
        told = self._evaluation.screen(self.outgoing.collect(replies))
        if not told and not self._evaluation.rejected:
            return None
        metrics, key = [one.metrics for one in told], self.weighted_by_key
        weights = [float(str(one.get(key, 0))) for one in metrics]  # a median uses none
        result = summed_up(self.evaluate_metrics_aggr_fn, metrics, weights, key)
        result.update(self._evaluation.counts(len(told)))
        result.update(self.outgoing.traffic.evaluation_metrics())
        return result
