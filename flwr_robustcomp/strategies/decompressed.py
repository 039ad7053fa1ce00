"""Any Flower strategy over compressed updates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Choice, Compressor
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.flower import LOG, private_copy
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_delta, step_length
from flwr_robustcomp.strategies.asked import Asked
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.downlink.sent import timeout_of
from flwr_robustcomp.strategies.flower.builtin import carried_by, is_finite_state
from flwr_robustcomp.strategies.flower.dense_replies import dense_replies, in_model_dtypes, with_content
from flwr_robustcomp.strategies.flower.final_model import with_final_model
from flwr_robustcomp.strategies.flower.handing_over import in_words, lenient, odd_ones, sums_up_itself, where, without_odd_ones
from flwr_robustcomp.strategies.flower.inner import attributes, check_inner, core_of, layers_of, starts_itself
from flwr_robustcomp.strategies.flower.private import PRIVATE, check_model, check_wrapped, is_clipped, leave_out
from flwr_robustcomp.strategies.nodes.enough_nodes import Need
from flwr_robustcomp.strategies.nodes.history import RunHistory
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.replies.evaluation import EvaluationReceiver
from flwr_robustcomp.strategies.replies.metrics import medians
from flwr_robustcomp.strategies.replies.receiver import UpdateReceiver
from flwr_robustcomp.strategies.replies.screening import Screened
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.resumable import ResumableWrapper
from flwr_robustcomp.strategies.server_step import check_step_size

__all__ = ["Decompressed"]

_OF_A_ROUND = ("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate", "summary")


class Decompressed(ResumableWrapper, Asked):
    """Put screening and decompression before any of Flower's strategies.

    The inner strategy sees ordinary dense replies, w_t - gamma Q(x) for each client, and only those that passed screening.

    Parameters
    ----------
    strategy : Strategy
        FedAvg or one of its descendants (FedMedian, FedTrimmedAvg, Krum, MultiKrum, Bulyan, FedAdam, one of your own), or a
        wrapper of one that keeps it as ``strategy``, such as Flower's for differential privacy.
    compressor, granularity, uncompressed
        Those of `Packing`, equal to the clients'; or a `Packing` as ``compressor``.
    step_size : float
        gamma; 1 where clients reply with weights.
    on_round : callable, optional
        Called with the `RoundReport` of every round. ``kept`` are the replies handed to the inner strategy.
    policy : Policy, optional
        What follows from rejected replies.
    downlink : Downlink, optional
        How the model travels to the nodes; by default dense, as Flower sends it.

    Attributes
    ----------
    reports : list of RoundReport
        One for each round so far.
    ledger : Ledger
        The rejections so far, by node and reason.

    Raises
    ------
    ConfigurationError
        At construction for a strategy that cannot work on dense replies, or a parameter out of range. In the first round for
        a model that Flower's clipping cannot read, and where a wrapper for differential privacy stands outside.

    Notes
    -----
    Memory is the inner strategy's: the dense replies of all clients at once. The inner strategy weights clients as it
    always does, by the number of examples that they claim. Metrics are summed up by `medians`, unless the inner strategy
    has a function of its own for them, or its own ``aggregate_evaluate``.

    *A reply's records* reach the inner strategy as the training function sent them, further MetricRecords and ConfigRecords
    included; nothing is filled in. Flower's means take them although they differ. Where a strategy of your own raises, the
    replies whose records differ from the majority's are rejected, and it is called once more without them, but not inside a
    wrapper for differential privacy, whose noise is drawn once. If it raises on replies that are all alike, that is its own
    fault: the exception leaves `aggregate_train`, until a round has succeeded. After that the round is skipped, which the
    policy counts as a round without quorum.

    *Attributes and methods* that this class does not have are the inner strategy's. If it has a `start` of its own, that one
    runs, with the rounds of this class inside.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> from flwr_robustcomp import Decompressed, L1Sign
    >>> class Mine(FedAvg):
    ...     folder = None
    ...     def save_to(self, folder):
    ...         self.folder = folder
    >>> strategy = Decompressed(Mine(fraction_evaluate=0.5), compressor=L1Sign())
    >>> strategy.save_to("models")
    >>> strategy.strategy.folder, strategy.fraction_evaluate
    ('models', 0.5)
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        compressor: Compressor | Choice | Packing,
        step_size: float = 1.0,
        granularity: Granularity | None = None,
        uncompressed: Sequence[str] | None = None,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
        downlink: Downlink | None = None,
    ) -> None:
        check_inner(strategy, packed=(CompressedStrategy, Decompressed))
        check_step_size(step_size)
        self.strategy = strategy
        self._core = core = core_of(strategy)
        self.step_size = step_size
        self.packing = Packing.of(compressor, granularity, uncompressed)
        key = core.arrayrecord_key
        self.receiver = UpdateReceiver(self.packing, weight_key=core.weighted_by_key, weight_required=True, arrays_key=key)
        self._evaluation = EvaluationReceiver(core.weighted_by_key, weight_required=sums_up_itself(strategy))
        self._evaluated = False
        self.history = RunHistory(on_round, policy)
        self.outgoing = Outgoing(downlink, key, self.history)
        self.ledger, self.reports = self.history.ledger, self.history.reports
        self._theirs: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        """Return what the inner strategy has under a name that this class does not have."""
        if name.startswith("__") or "strategy" not in vars(self):  # copying and unpickling ask an object that has nothing yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.strategy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the inner strategy, unless it is one of this class."""
        ours = "_theirs" not in vars(self) or name in vars(self) or hasattr(type(self), name)
        if ours:
            object.__setattr__(self, name, value)
        else:
            setattr(self.strategy, name, value)

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *args: Any, **kwargs: Any) -> Result:
        """Run the rounds by the inner strategy's own ``start`` if it has one, else as Flower's strategies do.

        Parameters
        ----------
        grid : Grid
            Passed on.
        initial_arrays : ArrayRecord
            The model to begin with.
        *args, **kwargs
            Those of the ``start`` that runs: Flower's are ``num_rounds``, ``timeout``, ``train_config``, ``evaluate_config``
            and ``evaluate_fn``.

        Returns
        -------
        Result
            What it returns; with the initial model where no round gave one.
        """
        self.outgoing.begin(timeout_of(args, kwargs))
        if not starts_itself(self.strategy):
            return with_final_model(super().start(grid, initial_arrays, *args, **kwargs), initial_arrays)
        # Its `self.configure_train` must be ours, and a `super()` in it must find its own class: so ours are set on the object.
        self._theirs = {name: getattr(self.strategy, name) for name in _OF_A_ROUND}
        try:
            with attributes(self.strategy, {name: getattr(self, name) for name in _OF_A_ROUND}):
                result = self.strategy.start(grid, initial_arrays, *args, **kwargs)
        finally:
            self._theirs = {}
        return with_final_model(result, initial_arrays) if isinstance(result, Result) else result

    def summary(self) -> None:
        """Log the configuration, the inner strategy's included."""
        LOG.info("\t├──> Decompressed %s:", type(self.strategy).__name__)
        LOG.info("\t│\t└── Compressor: %s; step size: %g", self.packing, self.step_size)
        self._inner("summary")()

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask as the inner strategy does, of the nodes that are not left out; remember w_t and who was asked."""
        check_wrapped(self)
        check_model(self.strategy, wire.shared_tensors(arrays))
        sample = functools.partial(self._inner("configure_train"), server_round, arrays, config)
        need = Need(type(self._core).__name__, self.check_nodes)
        asked = self.history.ask(server_round, grid, self._core, sample, need)
        return self.outgoing.pack(arrays, self.receiver.ask(server_round, arrays, asked), grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, decompress, and let the inner strategy aggregate."""
        screened = self.receiver.screen(self.outgoing.collect(replies))
        leave_out(screened, self.strategy, self._core)
        before = {name: getattr(self._core, name) for name in carried_by(self._core) or ()}
        arrays, metrics, skipped = self._aggregated(server_round, screened, before)
        called = skipped is None
        model = None if arrays is None else in_model_dtypes(arrays, self.receiver.model)
        if called:
            if model is None:
                skipped = "the inner strategy gave no result"
            elif not is_finite_model(model):
                skipped = "the inner strategy's result is not finite"
            elif not is_finite_state(self._core):
                skipped = "what the inner strategy carries to the next round is not finite"
        if skipped is not None:  # a step that was not made leaves nothing behind
            self._take_back(before)
        kept = tuple(u.node_id for u in screened.accepted) if called else ()
        report = self.outgoing.traffic.account(
            RoundReport(server_round, kept=kept, skipped=skipped, quorum=model is not None),
            delta=median_delta(screened.accepted),
            step=step_length(self.receiver.model, model, self.receiver.expected.layout) if model and not skipped else None,
        )
        merged = MetricRecord(dict(metrics or {}))
        merged.update(self.history.publish(report, screened))
        return (wire.to_arrays(model) if model and not skipped else None), merged

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask as the inner strategy does; remember who was asked."""
        self.history.check()
        asked = self._inner("configure_evaluate")(server_round, arrays, config, grid)
        return self.outgoing.pack(arrays, self._evaluation.ask(asked), grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the inner strategy sum up the replies that pass screening, and count both; its default are the medians."""
        accepted = self._evaluation.screen(self.outgoing.collect(replies))
        if not accepted and not self._evaluation.rejected:
            return None
        result = MetricRecord()
        if accepted:
            told = [with_content(one.message, private_copy(one.message.content)) for one in accepted]
            result = self._inner_metrics(server_round, told, lambda: self._medians([one.metrics for one in accepted]))
        result.update(self._evaluation.counts(len(accepted)))
        result.update(self.outgoing.traffic.evaluation_metrics())
        return result

    def _inner(self, name: str) -> Callable[..., Any]:
        """Return a method of the inner strategy, its own also while ours stands in its place."""
        found: Callable[..., Any] = self._theirs.get(name) or getattr(self.strategy, name)
        return found

    def _medians(self, metrics: Sequence[Any]) -> MetricRecord:
        return medians(metrics, self._core.weighted_by_key)

    def _aggregated(
        self, server_round: int, screened: Screened, before: dict[str, Any]
    ) -> tuple[ArrayRecord | None, MetricRecord | None, str | None]:
        """Return what the inner strategy makes of the accepted replies, and why the round is skipped where it is."""
        repeatable = not any(isinstance(layer, PRIVATE) for layer in layers_of(self.strategy))
        while True:
            updates = screened.accepted
            skipped = self.history.policy.shortfall(len(updates), len(screened.asked))
            if skipped is not None:
                return None, None, skipped
            dense = dense_replies(
                updates, self.receiver, self.step_size, self._core.arrayrecord_key, clipped=is_clipped(self.strategy)
            )
            contents = [message.content for message in dense]
            metrics = [update.metrics for update in updates]
            try:
                with (
                    lenient(self._core, lambda metrics=metrics: self._medians(metrics), training=True),  # type: ignore[misc]
                    np.errstate(over="ignore", invalid="ignore"),  # what overflows is found afterwards
                ):
                    arrays, told = self._inner("aggregate_train")(server_round, dense)
                return arrays, told, None
            except Exception as error:
                self._take_back(before)
                if repeatable and without_odd_ones(screened, contents, error):
                    repeatable = False  # once
                    continue
                if all(report.skipped is not None for report in self.reports):
                    raise  # no round has succeeded: nothing says that it is a client's fault
                LOG.warning("Where the inner strategy raised:\n%s", where(error))
                return None, None, f"the inner strategy raised {in_words(error)}"

    def _inner_metrics(self, server_round: int, replies: list[Message], summed_up: Callable[[], MetricRecord]) -> MetricRecord:
        odd = odd_ones([reply.content for reply in replies])
        try:
            with lenient(self._core, summed_up, training=False):
                told = self._inner("aggregate_evaluate")(server_round, replies)
        except Exception as error:
            if not odd and not self._evaluated:
                raise  # as in training
            LOG.warning("aggregate_evaluate raised %s: the medians stand in for it in this round", in_words(error))
            return summed_up()
        self._evaluated = True
        return MetricRecord(dict(told or {}))

    def _take_back(self, before: dict[str, Any]) -> None:
        for name, value in before.items():
            setattr(self._core, name, value)
