"""Robust aggregation in the compressed domain: a chain of filters on the inner products of packed updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.component import member
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.compressors.products import RUN, runs_of
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import FILTERS, Filter, Matrix, Vectors, chain
from flwr_robustcomp.filters.base import check_trim
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.strategies.aggregation import median_aside, project, weighted_sum
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import Rejection, RoundReport
from flwr_robustcomp.strategies.screening import Update
from flwr_robustcomp.strategies.server_step import Plain, ServerStep, StepState

__all__ = ["RobustCompressed"]

_LONGEST = 2.0**480
"""The largest norm that filters see: sums of products of longer vectors overflow, and then nothing is known of anybody."""


class RobustCompressed(CompressedStrategy):
    """Filter packed updates by their norms and inner products, add what is left, and step.

    Nothing becomes dense: the m x m Gram matrix and the one weighted sum both come from the packed form.

    Parameters
    ----------
    compressor : Compressor
        Q, equal to the clients'.
    trim : int or float
        How many Byzantine nodes to expect: a count, or a fraction in [0, 0.5) of the accepted replies, rounded up.
    filters : str or sequence of Filter or str
        Applied one after the other. A name of `FILTERS`, or the import path of one's own, stands for that filter with this
        strategy's ``trim``; names can be joined, as in ``"norm+spectral"``.
    step : ServerStep, optional
        What to do with the aggregate: `Plain` by default; `Momentum` and `Adam` have the semantics of FedAvgM and FedAdam.
    step_size : float
        gamma of the default step; 1 where clients reply with weights. Not together with ``step``.
    radius : float, optional
        Project onto the l2 ball of this radius about the origin.
    sketch : int, optional
        Estimate inner products from about this many coordinates, drawn anew each round, where the model has more.
    seed : int
        Of the sketch. Who knows it knows which coordinates nobody looks at: in a deployment, keep it to the server.
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
        For a value out of range, an unknown filter, or filters that drop half of the replies or more.

    Notes
    -----
    Cost beyond the sum: m (m - 1) / 2 inner products of packed vectors, and eigenvectors of an m x m matrix. A round with
    fewer replies than a filter needs leaves the model as it is. What each filter guarantees stands in its docstring and in
    docs/filters.md.
    """

    def __init__(
        self,
        *,
        compressor: Compressor,
        trim: int | float = 0,
        filters: str | Sequence[Filter | str] = "spectral",
        step: ServerStep | None = None,
        step_size: float = 1.0,
        radius: float | None = None,
        sketch: int | None = None,
        seed: int = 0,
        granularity: Granularity = "model",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
        **fedavg_options: Any,
    ) -> None:
        check_trim(trim)
        require(step is None or step_size == 1.0, "step_size", step_size, "set in the step where one is given")
        require(radius is None or radius > 0, "radius", radius, "positive or None")
        require(
            sketch is None or (isinstance(sketch, int) and sketch >= RUN), "sketch", sketch, f"an integer from {RUN}, or None"
        )
        super().__init__(
            compressor=compressor,
            granularity=granularity,
            uncompressed=uncompressed,
            on_round=on_round,
            policy=policy,
            **fedavg_options,
        )
        self.trim = trim
        named = filters.split("+") if isinstance(filters, str) else filters
        self.filters = tuple(_filter(one, trim) for one in named)
        share = sum(one.trim for one in self.filters if isinstance(one.trim, float))
        require(share < 0.5, "filters", [f"{one.name}: {one.trim}" for one in self.filters], "trimming less than half together")
        self.step = Plain(step_size) if step is None else step
        self.radius = radius
        self.sketch = sketch
        self.seed = seed
        self.step_state: StepState = {}

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if the filters cannot work on the replies of so many nodes."""
        chain(self.filters, Vectors.of_gram(np.eye(nodes)))

    def state(self) -> RecordDict:
        """Return also what the step carries: momentum, or the moments of Adam."""
        state = super().state()
        state["robustcomp.step"] = wire.to_arrays(self.step_state)
        return state

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned."""
        super().restore(state)
        step = state.get("robustcomp.step")
        self.step_state = wire.from_arrays(step) if isinstance(step, ArrayRecord) else {}

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> RobustCompressed settings:")
        LOG.info("\t│\t├── Compressor: %s (per %s)", self.receiver.compressor, self.receiver.granularity)
        LOG.info("\t│\t├── Filters: %s", ", then ".join(map(str, self.filters)) or "none")
        LOG.info("\t│\t└── Step: %s | radius: %s", self.step, self.radius)
        super().summary()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, filter by inner products, add straight from the bits, step, project."""
        screened = self.receiver.screen(replies)
        layout, norms = self.receiver.layout, self._norms(screened.accepted)
        longer = {node: norm for node, norm in norms.items() if norm > _LONGEST}
        updates = [update for update in screened.accepted if update.node_id not in longer]
        if (why := self.policy.shortfall(len(updates), len(screened.asked))) is not None:
            return self.skip(RoundReport(server_round, trimmed=longer, norms=norms), screened, why)
        vectors = self._vectors(updates, np.array([norms[update.node_id] for update in updates]), server_round)
        filters = [replace(one, trim=self._left(one.trim, screened.rejected, len(longer))) for one in self.filters]
        try:
            weights = chain(filters, vectors)
        except ConfigurationError as error:
            return self.skip(RoundReport(server_round), screened, str(error))

        mean = self._sum(updates, weights)
        step, state = self.step.apply(mean, self.step_state, server_round)
        w = project(layout.flatten(self.receiver.model).sub_(step), self.radius)

        kept = [update for update, weight in zip(updates, weights, strict=True) if weight > 0]
        report = RoundReport(
            server_round,
            kept=tuple(update.node_id for update in kept),
            trimmed=longer | {u.node_id: norms[u.node_id] for u, weight in zip(updates, weights, strict=True) if weight <= 0},
            norms=norms,
        )
        told = [float(weight) for weight in weights if weight > 0]
        arrays, metrics = self.conclude(report, screened, layout.join(w, median_aside(kept, layout)), kept, told)
        if arrays is not None:  # a step that overflowed was not made
            self.step_state = state
        return arrays, metrics

    def _norms(self, updates: Sequence[Update]) -> dict[int, float]:
        """Return the updates' l2 norms by node id."""
        compressor = self.receiver.expected.compressor
        return {update.node_id: math.hypot(*(compressor.norm(payload) for payload in update.payloads)) for update in updates}

    def _left(self, trim: int | float, rejected: list[Rejection], longer: int) -> int | float:
        """Return what is left of a filter's trim where so many updates were too long to be filtered."""
        left = self.policy.left_to_trim(trim, rejected)
        return max(0, left - longer) if isinstance(left, int) else left

    def _vectors(self, updates: Sequence[Update], norms: Matrix, server_round: int) -> Vectors:
        """Return the updates as the filters see them; inner products wait until a filter asks."""
        compressor = self.receiver.expected.compressor

        def gram() -> Matrix:
            chosen = self._chosen(server_round)
            parts = [
                compressor.inner_products([update.payloads[i] for update in updates], runs) for i, runs in enumerate(chosen)
            ]
            return np.asarray(np.sum(parts, axis=0))

        return Vectors(norms, gram)

    def _chosen(self, server_round: int) -> list[npt.NDArray[np.intp] | None]:
        """Return the runs of coordinates that the round's sketch takes from each span; None for all of them."""
        sizes = [span.stop - span.start for span in self.receiver.spans]
        share = 1.0 if self.sketch is None else self.sketch / sum(sizes)
        if share >= 1:
            return [None] * len(sizes)
        rng = generator(self.seed, "sketch", round_=server_round)
        counts = [max(1, round(share * runs_of(size))) for size in sizes]
        return [np.sort(rng.permutation(runs_of(size))[:count]) for size, count in zip(sizes, counts, strict=True)]

    def _sum(self, updates: Sequence[Update], weights: Matrix) -> Tensor:
        """Return sum_i weights[i] Q(x_i), shape (d,); dropped updates are not touched."""
        used = [(update, float(weight)) for update, weight in zip(updates, weights, strict=True) if weight != 0]
        receiver = self.receiver
        return weighted_sum(
            [update for update, _ in used], [w for _, w in used], receiver.layout, receiver.spans, receiver.expected.compressor
        )


def _filter(one: Filter | str, trim: int | float) -> Filter:
    if isinstance(one, Filter):
        return one
    require(isinstance(one, str), "filters", one, "Filters, or names of them")
    return member("filters", FILTERS, one, base=Filter)(trim)
