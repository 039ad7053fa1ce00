"""Robust compressed gradient descent: Algorithms 1, 2 and 3 of the paper as one Flower strategy."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Self, get_args

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from flwr_robustcomp.compressors import NORM_ORDERS, Compressor
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity
from flwr_robustcomp.strategies.aggregation import median_aside, project, weighted_sum
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.guarantee import log_guarantee
from flwr_robustcomp.strategies.norm_filter import check_trim, keep_smallest, sort_norm, trim_count
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.screening import Update
from flwr_robustcomp.strategies.server_step import check_step_size
from flwr_robustcomp.theory import Theorem

__all__ = ["Norm", "NormThreshold", "Weighting"]


Norm = Literal["compressed", "reported"]
"""Sort by ||Q(x)||_q, which the server computes (Algorithm 2), or by the reported ||x||_q if that is larger (Algorithm 1)."""

Weighting = Literal["equal", "examples"]
"""Weight the kept updates equally, as the paper does, or by the number of examples that each client claims."""


class NormThreshold(CompressedStrategy):
    """Drop the updates of largest norm and average the rest in the compressed domain.

    With ``trim=0`` it is vanilla compressed gradient descent; with error feedback on the clients and ``trim=0`` it is
    Algorithm 3; with both it is the thresholded error feedback of the paper's experiments.

    Parameters
    ----------
    compressor : Compressor
        Q, equal to the clients'.
    trim : int or float
        beta m as a count, or beta as a fraction in [0, 0.5) of the accepted replies, rounded up.
    norm : {"compressed", "reported"}
        The norm to sort by. "compressed" needs a compressor of C_norm; "reported" needs
        ``CompressionMod(report_norm=norm_order)``, and sorts by the larger of both norms (`norm_filter.sort_norm`).
    norm_order : {1, 2, inf}
        q.
    step_size : float
        gamma; 1 where clients reply with weights, so that their own learning rate is the step.
    radius : float, optional
        Project onto the l2 ball of this radius about the origin (the paper's W).
    weighting : {"equal", "examples"}
        How kept updates are weighted. "examples" lets clients choose their own weight; see docs/threat-model.md.
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

    Raises
    ------
    ConfigurationError
        For a value out of range, and for norm="compressed" with a compressor that does not embed the norm.

    Notes
    -----
    A reply that fails screening is dropped and does not count towards ``trim``. If the replies that are left do not outnumber
    twice the trim, the round leaves the model as it is. Guarantees: Theorems 1 to 3 of Ghosh et al. 2020.
    """

    def __init__(
        self,
        *,
        compressor: Compressor,
        trim: int | float = 0,
        norm: Norm = "compressed",
        norm_order: float = 2,
        step_size: float = 1.0,
        radius: float | None = None,
        weighting: Weighting = "equal",
        granularity: Granularity = "model",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
        **fedavg_options: Any,
    ) -> None:
        check_trim(trim)
        require(norm in get_args(Norm), "norm", norm, f"one of {', '.join(get_args(Norm))}")
        require(norm_order in NORM_ORDERS, "norm_order", norm_order, "one of 1, 2, inf")
        check_step_size(step_size)
        require(radius is None or radius > 0, "radius", radius, "positive or None")
        require(weighting in get_args(Weighting), "weighting", weighting, f"one of {', '.join(get_args(Weighting))}")
        super().__init__(
            compressor=compressor,
            granularity=granularity,
            uncompressed=uncompressed,
            on_round=on_round,
            policy=policy,
            norm_order=norm_order if norm == "reported" else None,
            weight_required=weighting == "examples",
            **fedavg_options,
        )
        require(
            norm == "reported" or compressor.embeds_norm or trim == 0,
            "norm",
            norm,
            f'"reported" for the compressor {compressor.name!r}, whose output does not embed the norm (section 5)',
        )
        self.trim = trim
        self.norm = norm
        self.norm_order = norm_order
        self.step_size = step_size
        self.radius = radius
        self.weighting = weighting
        self._said = False

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` unless so many replies outnumber twice the trim."""
        super().check_nodes(nodes)
        require(2 * trim_count(self.trim, nodes) < nodes, "trim", self.trim, f"less than half of {nodes} replies")

    def _trimming(self, trim: int) -> Self:
        (other := copy.copy(self)).trim = trim
        return other

    @property
    def theorem(self) -> Theorem:
        """The theorem of the algorithm that this is: 1 for reported norms, 2 for compressed ones."""
        return 1 if self.norm == "reported" else 2

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> NormThreshold settings:")
        LOG.info("\t│\t├── Compressor: %s (per %s)", self.receiver.compressor, self.receiver.granularity)
        LOG.info("\t│\t├── Trim: %s, by the %s l%g norm", self.trim, self.norm, self.norm_order)
        LOG.info("\t│\t└── Step size: %g | radius: %s | weighting: %s", self.step_size, self.radius, self.weighting)
        super().summary()

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Sample as `FedAvg` does; say once, where that is so, that no theorem covers this run."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if messages and not self._said:
            self._said = True
            spans, compressor = self.receiver.spans, self.receiver.compressor
            log_guarantee(compressor, spans, len(messages), self.trim, theorem=self.theorem, norm_order=self.norm_order)
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, sort by norm, keep the smallest, average straight from the bits, step, project (line 6)."""
        screened = self.receiver.screen(replies)
        updates, layout = screened.accepted, self.receiver.layout
        if (why := self.policy.shortfall(len(updates), len(screened.asked))) is not None:
            return self.skip(RoundReport(server_round), screened, why)
        trim = self.policy.to_trim(self.trim, screened.rejected, len(updates))
        if 2 * trim >= len(updates):
            why = f"trimming {trim} needs more than {2 * trim} accepted replies, got {len(updates)}"
            return self.skip(RoundReport(server_round), screened, why)

        compressor = self.receiver.expected.compressor
        norms = [sort_norm([(compressor, p) for p in u.payloads], self.norm_order, u.reported_norm) for u in updates]
        selection = keep_smallest(norms, trim)
        kept = [updates[i] for i in selection.kept]
        weights = self._weights(kept)
        mean = weighted_sum(kept, weights, layout, self.receiver.spans, compressor)
        w = project(layout.flatten(self.receiver.model).sub_(mean, alpha=self.step_size), self.radius)

        report = RoundReport(
            server_round,
            kept=tuple(update.node_id for update in kept),
            trimmed={updates[i].node_id: norms[i] for i in selection.trimmed},
            threshold=selection.threshold,
            norms={update.node_id: norm for update, norm in zip(updates, norms, strict=True)},
        )
        return self.conclude(report, screened, layout.join(w, median_aside(updates, layout)), kept, weights)

    def _weights(self, kept: Sequence[Update]) -> list[float]:
        """Return the weights of the kept updates; they sum to one."""
        if self.weighting == "equal":
            return [1.0 / len(kept)] * len(kept)
        counts = [float(str(update.metrics[self.weighted_by_key])) for update in kept]
        return [count / math.fsum(counts) for count in counts]
