"""signSGD with majority vote (Bernstein et al. 2019), the paper's comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flwr.app import ArrayRecord, Message, MetricRecord

from flwr_robustcomp.compressors import Compressor, Sign
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity
from flwr_robustcomp.strategies.aggregation import median_aside, weighted_sum
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.server_step import check_step_size

__all__ = ["SignMajorityVote"]


class SignMajorityVote(CompressedStrategy):
    """Every client votes with a sign on every coordinate; the majority's sign times gamma is the step.

    Parameters
    ----------
    compressor : Sign
        The one compressor whose payload is a vote.
    step_size : float
        gamma.
    granularity : {"model", "array"}
        Equal to the clients'.
    uncompressed : sequence of str
        Equal to the clients'.
    on_round : callable, optional
        Called with the `RoundReport` of every round as it ends.
    policy : Policy, optional
        What follows from rejected replies.
    **fedavg_options
        `FedAvg`'s own: sampling, keys, metric aggregation.

    Notes
    -----
    A tied coordinate does not move. No norm is computed and nobody is trimmed.
    """

    def __init__(
        self,
        *,
        compressor: Compressor | None = None,
        step_size: float = 1.0,
        granularity: Granularity = "model",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
        **fedavg_options: Any,
    ) -> None:
        compressor = Sign() if compressor is None else compressor
        require(isinstance(compressor, Sign), "compressor", compressor, "Sign() for a majority vote")
        check_step_size(step_size)
        super().__init__(
            compressor=compressor,
            granularity=granularity,
            uncompressed=uncompressed,
            on_round=on_round,
            policy=policy,
            **fedavg_options,
        )
        self.step_size = step_size

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> SignMajorityVote settings:")
        LOG.info("\t│\t└── Step size: %g", self.step_size)
        super().summary()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, count votes, step by the majority's sign."""
        screened = self.receiver.screen(replies)
        updates, layout = screened.accepted, self.receiver.layout
        if (why := self.policy.shortfall(len(updates), len(screened.asked))) is not None:
            return self.skip(RoundReport(server_round), screened, why)

        ballots = [1.0] * len(updates)
        votes = weighted_sum(updates, ballots, layout, self.receiver.spans, self.receiver.expected.compressor)
        w = layout.flatten(self.receiver.model).sub_(votes.sign_(), alpha=self.step_size)

        report = RoundReport(server_round, kept=tuple(update.node_id for update in updates))
        return self.conclude(report, screened, layout.join(w, median_aside(updates, layout)), updates, ballots)
