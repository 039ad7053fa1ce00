"""Any robust aggregation rule of ByzFL behind screening; an optional extra."""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Self

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.component import Component, construct
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters.length import FACTOR
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Granularity, Layout
from flwr_robustcomp.randomness import secret_seed, seeded_torch
from flwr_robustcomp.spans import decompress_spans
from flwr_robustcomp.strategies.aggregation import median_aside, project
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.kept_state import check_vectors, kept_seed
from flwr_robustcomp.strategies.length_screen import checked_length_screen, l2_norms, stopped_by_length
from flwr_robustcomp.strategies.norm_filter import check_trim, trim_count
from flwr_robustcomp.strategies.policy import Policy
from flwr_robustcomp.strategies.report import RoundReport
from flwr_robustcomp.strategies.screening import Update
from flwr_robustcomp.strategies.server_step import Plain

__all__ = ["ByzFL", "classes_of"]

Rule = str | Mapping[str, Any]
"""The name of one of ByzFL's classes, or a table of ``name`` and its parameters other than f."""

_LONGEST = 2.0**60
"""The largest norm that reaches ByzFL, which computes in float32: sums of squared distances beyond it overflow, and some rules
then return NaN, or nothing, for everybody."""

_SUBSETS = 100_000
_EXHAUSTIVE = ("MDA", "SMEA")
"""Rules that look at every choice of m - f out of m vectors, and how many choices are let through."""

_CENTRED = "CenteredClipping"
"""The one rule with a memory."""


@dataclass(frozen=True)
class _Part:
    """A rule to be made anew for every round, because f may follow from the number of replies."""

    component: Component
    registry: Mapping[str, Callable[..., Any]]
    field: str

    def make(self, f: int) -> Any:
        """Build ByzFL's object."""
        factory = self.registry.get(self.component.name)
        takes_f = factory is not None and "f" in inspect.signature(factory).parameters
        given: dict[str, Any] = {"f": f} if takes_f else {}
        return construct(self.field, self.registry, self.component, reserved=("f",), **given)


class ByzFL(CompressedStrategy):
    """Make updates dense, and let aggregators of ByzFL (Gonzalez et al. 2025) make one of them.

    Parameters
    ----------
    compressor : Compressor
        Q, equal to the clients'.
    aggregator : str or mapping
        The name of an aggregator of ByzFL, such as ``"Krum"``; or a table with its parameters, as in
        ``{"name": "GeometricMedian", "T": 10}``. By default the coordinate-wise trimmed mean.
    pre : str, mapping, or sequence of them
        Pre-aggregators, applied one after the other. Names can be joined, as in ``"ARC+NNM"``.
    trim : int or float
        ByzFL's f, for every rule that has one: a count, or a fraction in [0, 0.5) of the accepted replies, rounded up.
    step_size : float
        gamma; 1 where clients reply with weights.
    radius : float, optional
        Project onto the l2 ball of this radius about the origin.
    length_screen : float or None
        Before any rule, drop what is longer than this many times the median norm (`filters.Length`). 0 or None switches it off.
    seed : int, optional
        Of what rules draw (Bucketing, CAF, SMEA), anew each round. By default it is drawn in secret, and kept in checkpoints.
    granularity : {"model", "array"}
        Equal to the clients'.
    uncompressed : sequence of str
        Equal to the clients'.
    on_round : callable, optional
        Called with the `RoundReport` of every round as it ends. ``kept`` are all that reached ByzFL, which does not tell whom
        it left out.
    policy : Policy, optional
        What follows from rejected replies.
    **fedavg_options
        `FedAvg`'s own: sampling, keys, metric aggregation.

    Raises
    ------
    ConfigurationError
        If ByzFL is not installed, has no such rule, or refuses a parameter.

    Notes
    -----
    Memory: all updates as a float32 matrix, 4 m d bytes, and the copies that a rule makes of it (Krum: two more). Rules
    compute in float32, for models of float64 as well. A rule that raises, or returns anything but d finite numbers, leaves the
    model as it is, with the reason in the round's report. An update too long for float32 is dropped before, and counts as one
    of ``trim``. MDA and SMEA look at all choices of m - f vectors, and are refused where there are more than 100,000.

    The centre that CenteredClipping starts from is the last round's, as its authors have it, and is kept in checkpoints.
    """

    def __init__(
        self,
        *,
        compressor: Compressor,
        aggregator: Rule = "TrMean",
        pre: Rule | Sequence[Rule] = (),
        trim: int | float = 0,
        step_size: float = 1.0,
        radius: float | None = None,
        length_screen: float | None = FACTOR,
        seed: int | None = None,
        granularity: Granularity = "model",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        on_round: Callable[[RoundReport], None] | None = None,
        policy: Policy | None = None,
        **fedavg_options: Any,
    ) -> None:
        check_trim(trim)
        step = Plain(step_size)
        require(radius is None or radius > 0, "radius", radius, "positive or None")
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
        names = pre.split("+") if isinstance(pre, str) and pre else [pre] if isinstance(pre, Mapping) else list(pre)
        parts = [_Part(_component("pre", one), classes_of("preaggregators"), "pre") for one in names]
        self.parts = (*parts, _Part(_component("aggregator", aggregator), classes_of("aggregators"), "aggregator"))
        for part in self.parts:
            part.make(trim if isinstance(trim, int) else 0)
        self.trim = trim
        self.step = step
        self.radius = radius
        self.length_screen = screen
        self.seed = secret_seed() if seed is None else seed
        self.centre: Tensor | None = None

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if the rules cannot work on the replies of so many nodes."""
        super().check_nodes(nodes)
        try:
            self._apply(torch.eye(nodes), trim_count(self.trim, nodes), 0, None)
        except Exception as error:
            raise ConfigurationError(f"{self._names()} of {nodes} nodes with trim {self.trim}: {error}") from error

    def _trimming(self, trim: int) -> Self:
        (other := copy.copy(self)).trim = trim
        return other

    def state(self) -> RecordDict:
        """Return also the centre of CenteredClipping, and the seed of the rules."""
        state = super().state()
        state["robustcomp.draws"] = ConfigRecord({"seed": self.seed})
        state["robustcomp.byzfl"] = wire.to_arrays({} if self.centre is None else {"centre": self.centre})
        return state

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError`, and nothing is changed, for what it cannot have."""
        centre, seed = self._kept(state), kept_seed(state, "robustcomp.draws", self.seed)
        super().restore(state)
        self.centre, self.seed = centre.get("centre"), seed

    def check_state(self, state: RecordDict, model: ArrayRecord) -> None:
        """Raise `ConfigurationError` unless this is the state of a run of this model."""
        layout = Layout.of(wire.from_arrays(model), self.receiver.uncompressed)
        check_vectors("ByzFL's", self._kept(state), layout.dim, torch.float32)
        kept_seed(state, "robustcomp.draws", self.seed)

    def _kept(self, state: RecordDict) -> dict[str, Tensor]:
        record = state.get("robustcomp.byzfl")
        kept = wire.from_arrays(record) if isinstance(record, ArrayRecord) else {}
        require(not kept or list(kept) == ["centre"], "what ByzFL's rules carry", sorted(kept), "['centre']")
        check_vectors("ByzFL's", kept)
        return kept

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> ByzFL settings:")
        LOG.info("\t│\t├── Compressor: %s (per %s)", self.receiver.compressor, self.receiver.granularity)
        LOG.info("\t│\t├── Rules: %s, with f = %s", self._names(), self.trim)
        LOG.info("\t│\t└── Step size: %g | radius: %s", self.step.step_size, self.radius)
        super().summary()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Screen, decompress, aggregate, step, project."""
        screened = self.receiver.screen(replies)
        layout, accepted = self.receiver.layout, screened.accepted
        norms = l2_norms(accepted, self.receiver.expected.compressor)
        trim = self.policy.to_trim(self.trim, screened.rejected, len(accepted))
        stopped = stopped_by_length(norms, trim, self.length_screen, _LONGEST)
        updates, f = [update for update in accepted if update.node_id not in stopped], trim - len(stopped)
        report = RoundReport(server_round, trimmed=stopped, norms=norms)
        if (why := self.policy.shortfall(len(accepted), len(screened.asked))) is not None:
            return self.skip(report, screened, why)
        try:
            require(bool(updates), "updates left by the length screen", 0, "at least 1")
            mean, centre = self._apply(self._dense(updates), max(0, f), server_round, self.centre)
        except Exception as error:  # noqa: BLE001 - a library's, on what clients sent
            why = str(error).partition("\n")[0] or type(error).__name__
            return self.skip(report, screened, f"ByzFL's {self._names()}: {why}")

        step, _ = self.step.apply(mean, {}, server_round)
        w = project(layout.flatten(self.receiver.model).sub_(step), self.radius)
        report = replace(report, kept=tuple(u.node_id for u in updates))
        weights = [1.0 / len(updates)] * len(updates)
        arrays, metrics = self.conclude(report, screened, layout.join(w, median_aside(accepted, layout)), updates, weights)
        if arrays is not None:  # a step that overflowed was not made
            self.centre = centre
        return arrays, metrics

    def _dense(self, updates: Sequence[Update]) -> Tensor:
        """Return the updates as rows, shape (m, d), float32; beyond them one vector at a time is in memory."""
        rows = torch.empty(len(updates), self.receiver.layout.dim)
        for row, update in zip(rows, updates, strict=True):
            row.copy_(decompress_spans(update.payloads, self.receiver.expected.compressor, torch.float32))
        return rows

    def _apply(self, rows: Tensor, f: int, server_round: int, centre: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what the rules make of rows, shape (m, d), which they may overwrite, and the centre to go on from."""
        d = rows.shape[1]
        with seeded_torch(self.seed, "byzfl", round_=server_round):
            for part in self.parts:
                rule = part.make(f)
                if part.component.name in _EXHAUSTIVE:
                    choices = math.comb(len(rows), min(f, len(rows)))
                    require(
                        choices <= _SUBSETS, f"choices of m - f = {len(rows) - f} vectors", choices, f"at most {_SUBSETS:,}"
                    )
                if part.component.name != _CENTRED:
                    rows = rule(rows)
                    continue
                rule.m = centre  # its constructor refuses any
                centre = rows = rule(rows)
        require(isinstance(rows, Tensor) and rows.shape == (d,), "result", type(rows).__name__, f"a vector of {d} coordinates")
        require(bool(torch.isfinite(rows).all()), "result", "NaN or inf", "finite")
        return rows, centre

    def _names(self) -> str:
        return "+".join(part.component.name for part in self.parts)


def _component(field: str, rule: object) -> Component:
    named = isinstance(rule, str) or (isinstance(rule, Mapping) and isinstance(rule.get("name"), str))
    require(named, field, rule, "a name, or a table with a name")
    return Component.model_validate(rule)


@functools.cache
def classes_of(module: str) -> dict[str, Callable[..., Any]]:
    """Return ByzFL's classes by their names: its own documentation is their reference."""
    found = _library(f"byzfl.aggregators.{module}")
    return {name: one for name, one in vars(found).items() if isinstance(one, type) and one.__module__ == found.__name__}


def _library(module: str) -> ModuleType:
    """Import a module of ByzFL without what `import byzfl` brings: its benchmark, with torchvision, matplotlib and seaborn.

    The rules need none of these, a server has no use for them, and torchvision cannot be imported at all beside a torch that
    was built for other hardware. A package that is already imported is used as it is.
    """
    spec = importlib.util.find_spec("byzfl")
    if spec is None:
        raise ConfigurationError("ByzFL must be installed for this strategy: pip install 'flwr-robustcomp[byzfl]'")
    loaded = "byzfl" in sys.modules
    if not loaded:
        sys.modules["byzfl"] = importlib.util.module_from_spec(spec)  # made, and not run
    try:
        return importlib.import_module(module)
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise ConfigurationError(f"ByzFL must be importable for this strategy, got {type(error).__name__}: {why}") from error
    finally:
        if not loaded:
            del sys.modules["byzfl"]
