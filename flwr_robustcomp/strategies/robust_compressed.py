"""Robust aggregation in the compressed domain: a chain of filters on the inner products of packed updates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.component import member
from flwr_robustcomp.compressors import Compressor, working_dtype
from flwr_robustcomp.compressors.products import RUN
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import FILTERS, Filter, Matrix, Vectors, chain, reach_of
from flwr_robustcomp.filters.base import check_trim, trim_of
from flwr_robustcomp.filters.length import FACTOR
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity, Layout
from flwr_robustcomp.randomness import secret_seed
from flwr_robustcomp.strategies.aggregation import is_finite_model, median_aside, project, weighted_sum
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.kept_state import kept_seed
from flwr_robustcomp.strategies.length_screen import checked_length_screen, l2_norms, stopped_by_length
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.screening import Screened, Update
from flwr_robustcomp.strategies.server_step import Plain, ServerStep, StepState
from flwr_robustcomp.strategies.sketch import Runs, choose_runs, misleading, shown

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
    length_screen : float or None
        Before any filter, drop what is longer than this many times the median norm (`filters.Length`). None or 0 for no screen.
    sketch : int, optional
        Estimate inner products from about this many coordinates, drawn anew each round, where the model has more.
    seed : int, optional
        Of the sketch. Who knows it knows which coordinates nobody looks at. By default it is drawn in secret, and kept in
        checkpoints; set it for simulations that are to be repeated.
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

    *Dropped before the filters*, and taken off what they may trim: updates that the length screen stops, and under a sketch
    those whose length it does not show (`sketch.misleading`). A sketch that shows the typical update wrongly is not used in
    that round. While fewer than half of the accepted replies are Byzantine, the aggregate is at most ``length_screen`` times as
    long as the longest honest update, whatever the filters are; while the screen stops no honest one, at most `reach` times.
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
        length_screen: float | None = FACTOR,
        sketch: int | None = None,
        seed: int | None = None,
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
        screen = checked_length_screen(length_screen)
        require(seed is None or (isinstance(seed, int) and seed >= 0), "seed", seed, "an integer from 0, or None")
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
        self.length_screen = screen
        self.sketch = sketch
        self.seed = secret_seed() if seed is None else seed
        self.step_state: StepState = {}

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if the filters cannot work on the replies of so many nodes."""
        super().check_nodes(nodes)
        chain(self.filters, Vectors.of_gram(np.eye(nodes)))

    def _trimming(self, trim: int) -> Self:
        other = copy.copy(self)
        other.trim, other.filters = trim, tuple(replace(one, trim=trim) for one in self.filters)
        return other

    def reach(self, nodes: int) -> float:
        """Return how many times as long as the longest honest update the aggregate of so many replies can be, at most.

        It holds with at most as many Byzantine nodes as the filters trim, none where that is zero, and if the length screen
        stops no honest update. With a sketch only the screen's bound is promised: inner products are then estimates.

        Raises
        ------
        ConfigurationError
            If the filters cannot work on so few replies.
        """
        self.check_nodes(nodes)
        own = reach_of(self.filters, nodes) if self.sketch is None else math.inf
        return min(own, math.inf if self.length_screen is None else self.length_screen)

    def state(self) -> RecordDict:
        """Return also what the step carries, momentum or the moments of Adam, and the seed of the sketch."""
        state = super().state()
        state["robustcomp.step"] = wire.to_arrays(self.step_state)
        state["robustcomp.sketch"] = ConfigRecord({"seed": self.seed})
        return state

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError`, and nothing is changed, for what it cannot have."""
        step, seed = self._kept(state), kept_seed(state, "robustcomp.sketch", self.seed)
        super().restore(state)
        self.step_state, self.seed = step, seed

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        """Raise `ConfigurationError` unless this is the state of a run of this model."""
        layout = Layout.of(wire.from_arrays(model), self.receiver.uncompressed)
        self.step.check_state(self._kept(state), layout.dim, working_dtype(layout.dtype))
        kept_seed(state, "robustcomp.sketch", self.seed)

    def _kept(self, state: RecordDict) -> StepState:
        step = state.get("robustcomp.step")
        kept = wire.from_arrays(step) if isinstance(step, ArrayRecord) else {}
        self.step.check_state(kept)
        return kept

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> RobustCompressed settings:")
        LOG.info("\t│\t├── Compressor: %s (per %s)", self.receiver.compressor, self.receiver.granularity)
        LOG.info("\t│\t├── Filters: %s", ", then ".join(map(str, self.filters)) or "none")
        screen = "none" if self.length_screen is None else f"{self.length_screen:g} times the median norm"
        LOG.info("\t│\t├── Length screen: %s | sketch: %s", screen, self.sketch or "none")
        LOG.info("\t│\t├── Weights: equal; what clients count is used by metrics functions of your own alone")
        LOG.info("\t│\t└── Step: %s | radius: %s", self.step, self.radius)
        super().summary()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, filter by inner products, add straight from the bits, step, project."""
        screened = self.receiver.screen(replies)
        layout, accepted = self.receiver.layout, screened.accepted
        norms = l2_norms(accepted, self.receiver.expected.compressor)
        report = RoundReport(server_round, norms=norms)
        if (why := self.policy.shortfall(len(accepted), len(screened.asked))) is not None:
            return self.skip(report, screened, why)
        trim = max(trim_of(one, len(accepted)) for one in (self.trim, *(one.trim for one in self.filters)))
        stopped = stopped_by_length(norms, trim, self.length_screen, _LONGEST)
        updates = [update for update in accepted if update.node_id not in stopped]
        runs, unseen = self._sketch(updates, norms, server_round)
        stopped |= unseen
        updates = [update for update in updates if update.node_id not in stopped]
        report = replace(report, trimmed=stopped)
        vectors = self._vectors(updates, np.array([norms[update.node_id] for update in updates]), runs)
        try:
            require(bool(updates), "updates left by the length screen", 0, "at least 1")
            weights = self._weights(vectors, screened, len(stopped))
        except ConfigurationError as error:
            return self.skip(report, screened, str(error))

        mean = self._sum(updates, weights)
        step, state = self.step.apply(mean, self.step_state, server_round)
        if not is_finite_model(state):
            return self.skip(report, screened, "what the step carries overflows", quorum=True)
        w = project(layout.flatten(self.receiver.model).sub_(step), self.radius)

        kept = [update for update, weight in zip(updates, weights, strict=True) if weight > 0]
        dropped = {u.node_id: norms[u.node_id] for u, weight in zip(updates, weights, strict=True) if weight <= 0}
        report = replace(report, kept=tuple(update.node_id for update in kept), trimmed=stopped | dropped)
        told = [float(weight) for weight in weights if weight > 0]
        arrays, metrics = self.conclude(report, screened, layout.join(w, median_aside(accepted, layout)), kept, told)
        if arrays is not None:  # a step that overflowed was not made
            self.step_state = state
        return arrays, metrics

    def _weights(self, vectors: Vectors, screened: Screened, stopped: int) -> Matrix:
        """Return what the filters make of the updates that were not stopped before, shape (m,)."""

        def weights(*, short: bool) -> Matrix:
            trims = [self.policy.left_to_trim(one.trim, screened.rejected, short=short) for one in self.filters]
            counts = [max(0, trim_of(trim, len(screened.accepted)) - stopped) for trim in trims]
            return chain([replace(one, trim=count) for one, count in zip(self.filters, counts, strict=True)], vectors)

        try:
            return weights(short=False)
        except ConfigurationError:
            return weights(short=True)

    def _sketch(
        self, updates: Sequence[Update], norms: Mapping[int, float], server_round: int
    ) -> tuple[list[Runs] | None, dict[int, float]]:
        """Return the runs that inner products come from, None for all, and the norms of the updates that these misrepresent."""
        compressor, sizes = self.receiver.expected.compressor, [span.stop - span.start for span in self.receiver.spans]
        runs = choose_runs(sizes, self.sketch, self.seed, server_round)
        if runs is None or compressor.flat or not updates:
            return runs, {}
        lengths = np.array([norms[update.node_id] for update in updates])
        hidden = misleading(lengths, shown(compressor, [update.payloads for update in updates], runs))
        if hidden is None:
            return None, {}
        return runs, {update.node_id: norms[update.node_id] for update, out in zip(updates, hidden, strict=True) if out}

    def _vectors(self, updates: Sequence[Update], norms: Matrix, runs: Sequence[Runs] | None) -> Vectors:
        """Return the updates as the filters see them; inner products wait until a filter asks."""
        compressor = self.receiver.expected.compressor
        chosen = [None] * len(self.receiver.spans) if runs is None else runs

        def gram() -> Matrix:
            parts = [compressor.inner_products([update.payloads[i] for update in updates], one) for i, one in enumerate(chosen)]
            return np.asarray(np.sum(parts, axis=0))

        return Vectors(norms, gram)

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
