"""Robust aggregation in the compressed domain: a chain of filters on the inner products of packed updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from logging import INFO
from typing import ClassVar, Self, Unpack

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.component import resolve
from flwr_robustcomp.compressors.products import RUN
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import (
    Beside,
    Bounds,
    Filter,
    Norm,
    Vectors,
    bounds_of,
    chain_rows,
    fitted,
    spread_seen,
)
from flwr_robustcomp.filters.base import check_trim, trim_of
from flwr_robustcomp.filters.chains import own_budgets
from flwr_robustcomp.filters.length import FACTOR
from flwr_robustcomp.filters.specimen import specimen
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.randomness import secret_seed
from flwr_robustcomp.rules import RULES, Mean, Rule
from flwr_robustcomp.rules.base import surviving_shares
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.filtering import filtered, named_filters
from flwr_robustcomp.strategies.guarantee import length_line
from flwr_robustcomp.strategies.length_screen import checked_length_screen, stopped_by_length
from flwr_robustcomp.strategies.options import SharedOptions
from flwr_robustcomp.strategies.remembering import Remembering, checked_memory
from flwr_robustcomp.strategies.round import Outcome, Round, SkippedRound
from flwr_robustcomp.strategies.rule_checks import check_leaves, check_served
from flwr_robustcomp.strategies.server_step import Plain, ServerStep
from flwr_robustcomp.strategies.sketch import Runs, choose_runs, misleading, shown
from flwr_robustcomp.strategies.trusted_root import RootFunction, TrustedRoot, checked_root
from flwr_robustcomp.theory import Adversary

__all__ = ["RobustCompressed"]

_LONGEST = 2.0**480
"""The largest norm that filters see: sums of products of longer vectors overflow, and then nothing is known of anybody."""

_MANY = 1000
"""So many vectors tell whether a filter with a share for a trim drops any: one that shortens takes nothing off the others."""


class RobustCompressed(Remembering, CompressedStrategy):
    """Filter packed updates by their norms and inner products, aggregate what is left, and step.

    Nothing becomes dense: the m x m Gram matrix and the one weighted sum both come from the packed form.

    Parameters
    ----------
    trim : int or float
        How many Byzantine nodes to expect: a count, or a fraction in [0, 0.5) of the accepted replies, rounded up.
    filters : str or Filter or sequence of them
        Applied one after the other. A name of `FILTERS`, or the import path of one's own, stands for that filter with this
        strategy's ``trim``; names can be joined, as in ``"norm+spectral"``. A `Filter` without a trim of its own gets the
        strategy's, as in ``[NormClipping(), Spectral(slack=5)]``. By default
        "spectral", and "fl-trust" with a ``root``; empty for none.
    rule : str or Rule
        What becomes of the updates that the filters leave: a name of `RULES`, an import path, or a `Rule`. By default their
        mean. A rule by coordinates expects ``trim`` Byzantine ones among them, whatever the filters have dropped. With
        ``trim`` 0 a trimmed mean is the mean, and a warning says so.
    root : callable or TrustedRoot, optional
        ``root(server_round, arrays)`` trains on a small clean sample of the server's, and returns the new model, as clients do.
        For filters that look at it (``"fl-trust"``, ``"zeno"``): they withstand any number of liars.
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
    memory : float or None
        In (0, 1): remember what each node sent, for filters that look at histories (`OverTime`, `FoolsGold`); how much of the
        past a round leaves (`Memory`). None or 0 for none.
    seed : int, optional
        Of the sketch, and of that of the memory. Who knows it knows where nobody looks. By default it is drawn in secret,
        and kept in checkpoints; set it for simulations that are to be repeated.
    **options
        Those of `CompressedStrategy`, ``compressor`` among them.

    Raises
    ------
    ConfigurationError
        For a value out of range, an unknown filter or rule, filters that drop half of the replies or more, or a rule by
        coordinates with a compressor that sends few of them.

    Notes
    -----
    Cost beyond the sum: m (m - 1) / 2 inner products of packed vectors, and eigenvectors of an m x m matrix. What each filter
    guarantees stands in its docstring and in docs/filters.md.

    *Too few replies.* A round with fewer replies than a filter needs for its count leaves the model as it is. Where ``trim`` is
    a share, filters work for as many liars as they can with the replies that came, as long as one of them works against
    somebody, and the report says so (`RoundReport.weakened`). So they do, with a count too, where enough replies came and a
    filter such as `SignGuard` has left too few of them for the next.

    *Dropped before the filters*, and taken off what they may trim: updates that the length screen stops, and under a sketch
    those whose length it does not show (`sketch.misleading`). A sketch that shows the typical update wrongly is not used in
    that round. While fewer than half of the accepted replies are Byzantine, the aggregate is at most ``length_screen`` times as
    long as the longest honest update, whatever the filters are; while the screen stops no honest one, at most `reach` times.
    Where a filter trusts the root there is no length screen, arrays that travel uncompressed come from the root, and what is
    promised is that filter's own, in which the root counts as honest.

    Examples
    --------
    >>> from flwr_robustcomp import Drive, RobustCompressed
    >>> strategy = RobustCompressed(compressor=Drive(), filters="norm-clipping+directions+spectral", trim=2)
    >>> [one.name for one in strategy.filters], strategy.reach(20)
    (['norm-clipping', 'directions', 'spectral'], 1.0)
    """

    seed: int

    state_record: ClassVar[str] = "robustcomp.step"
    seed_record: ClassVar[str] = "robustcomp.sketch"

    def __init__(
        self,
        *,
        trim: int | float = 0,
        filters: str | Filter | Sequence[Filter | str] | None = None,
        rule: str | Rule = "mean",
        step: ServerStep | None = None,
        step_size: float = 1.0,
        radius: float | None = None,
        length_screen: float | None = FACTOR,
        sketch: int | None = None,
        memory: float | None = None,
        seed: int | None = None,
        root: RootFunction | TrustedRoot | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        check_trim(trim)
        require(step is None or step_size == 1.0, "step_size", step_size, "set in the step where one is given")
        require(radius is None or radius > 0, "radius", radius, "positive or None")
        require(
            sketch is None or (isinstance(sketch, int) and sketch >= RUN), "sketch", sketch, f"an integer from {RUN}, or None"
        )
        screen = checked_length_screen(length_screen)
        require(seed is None or (isinstance(seed, int) and seed >= 0), "seed", seed, "an integer from 0, or None")
        super().__init__(**options)
        self.trim = trim
        if filters is None:
            filters = "spectral" if root is None else "fl-trust"
        self.filters = named_filters(filters, trim)
        self.root = checked_root(root, self.filters)
        self.rule = rule if isinstance(rule, Rule) else resolve("rule", RULES, rule, base=Rule)()
        self.memory = checked_memory(memory, self.filters)
        check_served(self.rule, self.packing, trim)
        for one in self.filters:
            missing = [what for what in one.looks_at if what not in self.shows()]
            require(not missing, "filters", one.name, f"one that works without {' and '.join(missing)}, which is not set up")
        dropping = [one for one in own_budgets(self.filters) if one.left(_MANY, trim_of(one.trim, _MANY)) < _MANY]
        share = sum(one.trim for one in dropping if isinstance(one.trim, float))
        require(share < 0.5, "filters", [f"{one.name}: {one.trim}" for one in self.filters], "trimming less than half together")
        self.step = Plain(step_size) if step is None else step
        self.radius = radius
        # The median of the lengths says nothing where most may lie, and a root says it better.
        self.length_screen = None if any(one.trusts_root for one in self.filters) else screen
        self.sketch = sketch
        self.seed = secret_seed() if seed is None else seed

    def shows(self) -> tuple[str, ...]:
        """Return what filters may ask for beside norms and inner products: fields of `Beside`."""
        return ("signs", *(() if self.memory is None else ("history",)), *(() if self.root is None else self.root.shows))

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if the filters cannot work on the replies of so many nodes."""
        super().check_nodes(nodes)
        fit = fitted(self.filters, nodes)
        some = [own if own.trim else one for own, one in zip(fit, self.filters, strict=True)]  # a share of nobody is no defence
        rows = chain_rows(some, specimen(nodes))
        check_leaves(self.rule, trim_of(self.trim, nodes), nodes)
        idle = self.rule.by_coordinate and len(rows) == 1 < nodes
        require(not idle, "rule", self.rule.name, "mean behind filters that leave a single vector")

    def trimmed_by_norm(self, nodes: int) -> tuple[int, float]:
        """Return how many of so many replies may be set aside; the filters measure by l2 norms."""
        return trim_of(self.trim, nodes), 2

    def with_trim(self, trim: int) -> Self:
        """Return this strategy, and all of its filters, for another number of Byzantine nodes."""
        other = super().with_trim(trim)
        other.filters = tuple(replace(one, trim=trim) for one in self.filters)
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
        trim = trim_of(self.trim, nodes)
        bounds = bounds_of(fitted(self.filters, nodes), nodes, yielding=True)
        own = self.rule.reach(bounds, trim) if self.sketch is None else math.inf
        screen = math.inf if self.length_screen is None else self.length_screen
        return min(own, self.rule.reach(Bounds(screen, screen, math.inf, min(bounds.count, nodes - trim), nodes), trim))

    def outside_theory(self, layout: Layout, nodes: int, adversary: Adversary = "arbitrary") -> tuple[int, str] | None:
        """Return a logging level and a line on what is proved; None for the filter `Norm` and a mean, which are Algorithm 2."""
        if [type(one) for one in self.filters] == [Norm] and isinstance(self.rule, Mean):
            return None
        return INFO, length_line(self.filters, self.rule, nodes, trim_of(self.trim, nodes), self.reach(nodes))

    def check_carried(self, state: Mapping[str, Tensor], d: int | None = None, dtype: torch.dtype | None = None) -> None:
        """Refuse what the step cannot have left: momentum, or the moments of Adam."""
        self.step.check_state(dict(state), d, dtype)

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> RobustCompressed settings:")
        LOG.info("\t│\t├── Compressor: %s", self.packing)
        LOG.info("\t│\t├── Filters: %s | rule: %s", ", then ".join(map(str, self.filters)) or "none", self.rule.name)
        screen = "none" if self.length_screen is None else f"{self.length_screen:g} times the median norm"
        kept = "none" if self.memory is None else f"{self.memory.keep:g}"
        LOG.info("\t│\t├── Length screen: %s | sketch: %s | memory: %s", screen, self.sketch or "none", kept)
        LOG.info("\t│\t├── Weights: equal; what clients count is used by metrics functions of your own alone")
        LOG.info("\t│\t└── Step: %s | radius: %s", self.step, self.radius)
        super().summary()

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        """Set aside what is too long, filter by inner products, aggregate straight from the bits, step."""
        norms = dict(zip(round_.nodes, round_.norms(), strict=True))
        trim = max(trim_of(one, len(round_)) for one in (self.trim, *(one.trim for one in self.filters)))
        stopped = stopped_by_length(norms, trim, self.length_screen, _LONGEST)
        runs, hidden = self._sketch(round_.without(stopped), norms)
        stopped |= hidden
        left = round_.without(stopped)
        try:
            require(len(left) > 0, "updates left by the length screen", 0, "at least 1")
            own = None if self.root is None else self.root.asked(left, self.filters, _LONGEST)
            beside = self._beside(left) if own is None else own.beside(self._beside(left))
            vectors = Vectors(np.array([norms[node] for node in left.nodes]), lambda: left.gram(runs), beside)
            rows, weakened = filtered(self.filters, vectors, round_, len(stopped))
            expected = max(0, trim_of(round_.left_to_trim(self.trim), len(round_)) - len(stopped))
            check_leaves(self.rule, expected, len(left))
        except ConfigurationError as error:
            raise SkippedRound(str(error), norms=norms, trimmed=stopped) from error
        total, shares = left.combine(self.rule, rows, expected)
        total = total if own is None else own.joined(total)
        step, state = self.step.apply(total, dict(state), round_.number)
        counted = dict(zip(left.nodes, (rows * shares[:, None]).mean(axis=0).tolist(), strict=True))
        whole = dict(zip(left.nodes, surviving_shares(rows, shares).tolist(), strict=True))
        survived = {node: whole.get(node, 0.0) for node in round_.nodes}
        spread = spread_seen(self.filters, vectors, max(0, trim - len(stopped)))
        aside = None if own is None else own.aside
        return Outcome(
            step,
            [counted.get(node, 0.0) for node in round_.nodes],
            norms=norms,
            state=state,
            weakened=weakened,
            survived=survived,
            spread=spread,
            aside=aside,
        )

    def _beside(self, left: Round) -> Beside:
        """Return what filters may ask for beside norms and inner products of the updates that were not stopped."""
        return Beside(signs=left.signs, history=self.remember(left))

    def _sketch(self, round_: Round, norms: Mapping[int, float]) -> tuple[list[Runs] | None, dict[int, float]]:
        """Return the runs that inner products come from, None for all, and the norms of the updates that these misrepresent."""
        compressors, sizes = [s.compressor for s in round_.spans], [s.stop - s.start for s in round_.spans]
        runs = choose_runs(sizes, self.sketch, self.seed, round_.number)
        if runs is None or all(compressor.flat for compressor in compressors) or not round_.updates:
            return runs, {}
        lengths = np.array([norms[node] for node in round_.nodes])
        hidden = misleading(lengths, shown(compressors, [update.payloads for update in round_.updates], runs))
        if hidden is None:
            return None, {}
        return runs, {node: norms[node] for node, out in zip(round_.nodes, hidden, strict=True) if out}
