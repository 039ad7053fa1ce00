"""The history that a strategy keeps of its run, and what follows from it under its policy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace

from flwr.app import ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp.errors import ConfigurationError, QuorumError, require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.randomness import seeded_python
from flwr_robustcomp.strategies.nodes.drop_watch import DropWatch
from flwr_robustcomp.strategies.nodes.enough_nodes import Need, ask_enough
from flwr_robustcomp.strategies.nodes.failing_alike import common_fault
from flwr_robustcomp.strategies.nodes.ledger import Ledger
from flwr_robustcomp.strategies.nodes.sampling import SamplingView
from flwr_robustcomp.strategies.nodes.step_watch import StepWatch
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.replies.screening import Screened
from flwr_robustcomp.strategies.report import RoundReport

__all__ = ["LEDGER_RECORD", "RunHistory"]

LEDGER_RECORD = "robustcomp.ledger"
"""Name of the ConfigRecord in a checkpoint that keeps the ledger."""


class RunHistory:
    """Keeps and publishes the reports of a run, and holds them against a policy.

    Parameters
    ----------
    on_round : callable, optional
        Called with each report.
    policy : Policy, optional
        By default `Policy()`.

    Attributes
    ----------
    reports : list of RoundReport
        One for each round so far.
    ledger : Ledger
        The rejections so far.
    left_out : int
        How many nodes that had sent garbage are left out of the current round, where all others are asked.
    sampling_seed : int or None
        Which nodes Flower samples in a round follows from it; None to leave that to Python's global generator.
    """

    def __init__(self, on_round: Callable[[RoundReport], None] | None, policy: Policy | None) -> None:
        require(policy is None or isinstance(policy, Policy), "policy", policy, "a Policy")
        self.on_round = on_round
        self.policy = Policy() if policy is None else policy
        self.ledger = Ledger(self.policy)
        self.reports: list[RoundReport] = []
        self.left_out = 0
        self.sampling_seed: int | None = None
        self._without_quorum = 0
        self._watch = StepWatch()
        self._drops = DropWatch()
        self._proven = False  # whether a reply was ever accepted: the configuration then works for somebody
        self._connected = 0
        self._fault: str | None = None

    @property
    def longest_step(self) -> float | None:
        """The length of the longest of the model's last ten steps; None where it has made none."""
        return max(self._watch.norms, default=None)

    def ask(
        self,
        server_round: int,
        grid: Grid,
        sampling: FedAvg,
        sample: Callable[[Grid], Iterable[Message]],
        need: Need,
    ) -> list[Message]:
        """Return a round's messages; refuse in the first round what no later round can mend.

        Parameters
        ----------
        server_round : int
            t.
        grid : Grid
            The round's.
        sampling : FedAvg
            Who has the options of sampling.
        sample : callable
            Samples from the Grid that it is given, and returns a message for each node.
        need : Need
            What the strategy needs. The policy's quorum is checked beside.

        Raises
        ------
        ConfigurationError
            In the first round if the nodes that are sampled can never be enough.
        QuorumError
            As `open` does.
        """
        view = self.open(server_round, grid, sampling)
        draw = functools.partial(self._draw, server_round, sample, view)
        if self._proven or self.reports or server_round != 1:
            messages = draw()
        else:
            quorum = Need(f"policy.quorum = {self.policy.quorum}", self._check_quorum)
            messages = ask_enough(draw, (need, quorum), view, sampling)
        if len({message.metadata.dst_node_id for message in messages}) < len(list(view.get_node_ids())):
            self.left_out = 0  # a trim is about the nodes that are asked: those left out count only where all others are
        return messages

    def _draw(self, server_round: int, sample: Callable[[Grid], Iterable[Message]], view: Grid) -> list[Message]:
        if self.sampling_seed is None:
            return list(sample(view))
        with seeded_python(self.sampling_seed, "sample", round_=server_round):
            return list(sample(view))

    def _check_quorum(self, nodes: int) -> None:
        quorum = self.policy.quorum
        require(self.policy.needed(nodes) <= nodes, "policy.quorum", quorum, f"at most the {nodes} nodes of a round")

    def open(self, server_round: int, grid: Grid, strategy: FedAvg) -> Grid:
        """Return the Grid to sample a round's nodes from.

        Raises
        ------
        QuorumError
            If the policy's patience is at its end. Here, and not in `aggregate_train`: the last round's evaluation, record and
            checkpoint have been made.
        ConfigurationError
            As `check` does.
        """
        self.check()
        self._connected = len(list(grid.get_node_ids()))
        if self.policy.patience is not None and self._without_quorum >= self.policy.patience:
            last = self.reports[-1]
            raise QuorumError(
                f"{self._without_quorum} rounds in a row had no quorum (policy.patience), the last was round {last.round_}: "
                f"{last.skipped}; rejected so far: {self.ledger.total() or 'nobody'}"
            )
        needed = max(strategy.min_available_nodes, strategy.min_train_nodes)

        def available(nodes: Iterable[int]) -> list[int]:
            connected = list(nodes)
            self._connected = len(connected)  # nodes register while sampling waits
            sampled = self.ledger.available(server_round, connected, needed)
            self.left_out = self.ledger.garbage_senders(set(connected) - set(sampled))
            return sampled

        return SamplingView(grid, available)

    def check(self) -> None:
        """Raise `ConfigurationError` if all nodes of a round failed alike before any reply was ever accepted.

        It is called in `configure_evaluate`, which Flower calls in every round, the only one included. `aggregate_train` raises
        nothing, whatever the replies are.
        """
        if self._fault is not None:
            raise ConfigurationError(self._fault)

    def publish(self, report: RoundReport, screened: Screened) -> MetricRecord:
        """Complete a report with what screening found; log it, keep it, hand it on, return it as metrics."""
        alarm = None if report.step is None else self._watch.judge(report.step)
        report = replace(report, rejected=tuple(screened.rejected), bytes_received=screened.bytes_received, alarm=alarm)
        warning = None if report.spread is None else self._drops.judge(report.kept, report.trimmed)
        report = replace(report, dropped_metrics=screened.dropped_metrics, minority_warning=warning)
        report.log()
        accepted = [update.node_id for update in screened.accepted]
        self.ledger.enter(report.round_, screened.asked, accepted, screened.rejected)
        if report.rejected:
            LOG.warning("\t> rejected so far: %s", self.ledger.total())
        self._without_quorum = 0 if report.quorum else self._without_quorum + 1
        self._proven = self._proven or bool(accepted)
        if not self._proven and (fault := common_fault(report.rejected, screened.asked, self._connected)) is not None:
            LOG.error("\t> round %d: %s", report.round_, fault)
            self._fault = None if self.policy.patience is None else fault  # without patience's end a run goes on for ever
        self.reports.append(report)
        if self.on_round is not None:
            self.on_round(report)
        metrics = report.metrics()
        metrics.update(self.ledger.metrics())
        return metrics

    def state(self) -> ConfigRecord:
        """Return what a checkpoint keeps: ledger, last steps' lengths, last drops. A run that goes on has its patience back."""
        state = self.ledger.state()
        state["steps"] = list(self._watch.norms)
        state["drops"] = self._drops.state()
        state["judged"] = self._proven or bool(self.reports)
        return state

    def restore(self, state: object) -> None:
        """Go on from what `state` returned; `ConfigurationError` for anything else, None included."""
        if not isinstance(state, ConfigRecord):
            raise ConfigurationError(f"{LEDGER_RECORD} must be a ConfigRecord, got {type(state).__name__}")
        steps = state.get("steps", [])  # checkpoints of 0.1.0 have none
        if not isinstance(steps, list) or not all(isinstance(norm, float) and norm >= 0 for norm in steps):
            raise ConfigurationError(f"{LEDGER_RECORD}.steps must be a list of lengths, got {type(steps).__name__}")
        drops = DropWatch.restored(state.get("drops"))  # 0.1.0 has none of these either
        self.ledger.restore(state)
        self._drops = drops
        self._watch = StepWatch(float(str(norm)) for norm in steps)
        self._proven = bool(state.get("judged", True))  # a run that has had rounds was judged in its first one
