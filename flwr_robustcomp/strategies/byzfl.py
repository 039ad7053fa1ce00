"""Any robust aggregation rule of ByzFL behind screening; an optional extra."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from flwr_robustcomp.component import Component, build
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters.base import check_trim, trim_of
from flwr_robustcomp.filters.length import FACTOR
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.randomness import secret_seed, seeded_torch
from flwr_robustcomp.strategies.compressed import CompressedStrategy
from flwr_robustcomp.strategies.kept_state import check_vectors
from flwr_robustcomp.strategies.length_screen import checked_length_screen, stopped_by_length
from flwr_robustcomp.strategies.options import SharedOptions
from flwr_robustcomp.strategies.round import Outcome, Round, SkippedRound
from flwr_robustcomp.strategies.server_step import check_step_size

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
        return build(self.field, self.registry, self.component, reserved=("f",), **given)


class ByzFL(CompressedStrategy):
    """Make updates dense, and let aggregators of ByzFL (Gonzalez et al. 2025) make one of them.

    Parameters
    ----------
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
    **options
        Those of `CompressedStrategy`, ``compressor`` among them. In reports ``kept`` are all that reached ByzFL, which does not
        tell whom it left out.

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

    Examples
    --------
    >>> from flwr_robustcomp import ByzFL, L1Sign
    >>> ByzFL(compressor=L1Sign(), aggregator="Krum", pre="NNM", trim=2).trim
    2
    """

    seed: int

    state_record: ClassVar[str] = "robustcomp.byzfl"

    def __init__(
        self,
        *,
        aggregator: Rule = "TrMean",
        pre: Rule | Sequence[Rule] = (),
        trim: int | float = 0,
        step_size: float = 1.0,
        radius: float | None = None,
        length_screen: float | None = FACTOR,
        seed: int | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        check_trim(trim)
        check_step_size(step_size)
        require(radius is None or radius > 0, "radius", radius, "positive or None")
        screen = checked_length_screen(length_screen)
        require(seed is None or (isinstance(seed, int) and seed >= 0), "seed", seed, "an integer from 0, or None")
        super().__init__(**options)
        names = pre.split("+") if isinstance(pre, str) and pre else [pre] if isinstance(pre, Mapping) else list(pre)
        parts = [_Part(_component("pre", one), classes_of("preaggregators"), "pre") for one in names]
        self.parts = (*parts, _Part(_component("aggregator", aggregator), classes_of("aggregators"), "aggregator"))
        for part in self.parts:
            part.make(trim if isinstance(trim, int) else 0)
        self.trim = trim
        self.step_size = step_size
        self.radius = radius
        self.length_screen = screen
        self.seed = secret_seed() if seed is None else seed

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if the rules cannot work on the replies of so many nodes."""
        super().check_nodes(nodes)
        try:
            self._apply(torch.eye(nodes), trim_of(self.trim, nodes), 0, None)
        except Exception as error:
            raise ConfigurationError(f"{self._names()} of {nodes} nodes with trim {self.trim}: {error}") from error

    def check_carried(self, state: Mapping[str, Tensor], d: int | None = None, dtype: torch.dtype | None = None) -> None:
        """Refuse anything but the centre of CenteredClipping, which is float32 whatever the model is."""
        require(not state or list(state) == ["centre"], "what ByzFL's rules carry", sorted(state), "['centre']")
        check_vectors("ByzFL's", state, d, torch.float32)

    def summary(self) -> None:
        """Log the configuration."""
        LOG.info("\t├──> ByzFL settings:")
        LOG.info("\t│\t├── Compressor: %s", self.packing)
        LOG.info("\t│\t├── Rules: %s, with f = %s", self._names(), self.trim)
        LOG.info("\t│\t└── Step size: %g | radius: %s", self.step_size, self.radius)
        super().summary()

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        """Set aside what is too long, decompress, let the rules aggregate."""
        norms = dict(zip(round_.nodes, round_.norms(), strict=True))
        trim = round_.to_trim(self.trim)
        stopped = stopped_by_length(norms, trim, self.length_screen, _LONGEST)
        left = round_.without(stopped)
        try:
            require(len(left) > 0, "updates left by the length screen", 0, "at least 1")
            mean, centre = self._apply(left.rows(), max(0, trim - len(stopped)), round_.number, state.get("centre"))
        except Exception as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            raise SkippedRound(f"ByzFL's {self._names()}: {why}", norms=norms, trimmed=stopped) from error
        weights = [0.0 if node in stopped else 1.0 / len(left) for node in round_.nodes]
        state = {} if centre is None else {"centre": centre}
        return Outcome(mean.mul(self.step_size), weights, norms=norms, state=state)

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
