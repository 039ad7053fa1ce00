"""What a record says of each defence under each attack, over all seeds, and how docs/robustness.md writes it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.simulations.records.curves import Curves
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from flwr_robustcomp.simulations.scenario.suite import SuiteCell

__all__ = ["ARRIVED", "SUBJECT", "Outcome", "Table", "error_text", "head", "outcomes", "row"]

SUBJECT = "spectral"
"""The defence whose losses the page accounts for: `RobustCompressed` with its defaults."""

ARRIVED = 0.01
"""A run has arrived when its error is this share of that at the start."""


@dataclass(frozen=True)
class Outcome:
    """All seeds of one defence under one attack.

    Attributes
    ----------
    start : float
        Median error before the first round.
    finals : tuple of float
        Error after the last round of each seed, ascending; infinite where it is not finite.
    arrived : float
        Median over the seeds of the first round with `ARRIVED` of the start's error; infinite where there is none.
    caught, lost : float or None
        Byzantine and honest nodes dropped a round, on average; None for a defence that drops nobody.
    """

    start: float
    finals: tuple[float, ...]
    arrived: float
    caught: float | None
    lost: float | None

    @property
    def median(self) -> float:
        """Of the final errors."""
        return statistics.median(self.finals)

    @property
    def diverged(self) -> int:
        """How many seeds ended farther from the solution than they began."""
        return sum(not final < self.start for final in self.finals)

    def __str__(self) -> str:
        """Median and, where there are several, worst final error."""
        median = error_text(self.median, self.start)
        return f"{median} ({error_text(self.finals[-1], self.start)})" if len(self.finals) > 1 else median


Table = dict[tuple[str, str], Outcome]
"""By attack and defence."""


def outcomes(cells: Sequence[SuiteCell], curves: Curves) -> tuple[Table, list[int]]:
    """Return what a record holds of a suite, and the seeds that every combination has: only these count."""
    groups: dict[tuple[str, str], dict[int, SuiteCell]] = {}
    for cell in cells:
        if len(curves.get(cell.scenario.key, ())) == cell.scenario.rounds + 1:
            groups.setdefault((cell.group.attack, cell.group.strategy), {})[cell.scenario.seed] = cell
    wanted = {(cell.group.attack, cell.group.strategy) for cell in cells}
    seeds = sorted(set.intersection(*(set(groups.get(one, {})) for one in wanted)))
    if not seeds:
        return {}, []
    return {one: _outcome([groups[one][seed] for seed in seeds], curves) for one in wanted}, seeds


def _outcome(cells: Sequence[SuiteCell], curves: Curves) -> Outcome:
    runs = [curves[cell.scenario.key] for cell in cells]
    errors = [[math.inf if record.get("error") is None else float(record["error"]) for record in run] for run in runs]
    arrivals = [next((t for t, e in enumerate(run) if e <= ARRIVED * run[0]), math.inf) for run in errors]
    caught, lost = [], []
    for cell, run in zip(cells, runs, strict=True):
        liars = byzantine_partitions(cell.scenario)
        for record in run[1:]:
            trimmed = set(record.get("trimmed") or ())
            caught.append(len(trimmed & liars))
            lost.append(len(trimmed - liars))
    drops = any(caught) or any(lost)
    return Outcome(
        statistics.median(run[0] for run in errors),
        tuple(sorted(run[-1] for run in errors)),
        statistics.median(arrivals),
        statistics.fmean(caught) if drops else None,
        statistics.fmean(lost) if drops else None,
    )


def head(defences: Sequence[str]) -> list[str]:
    """Return the head of a table with a column for each defence."""
    return [f"| attack | {' | '.join(defences)} |", "|---" + "|--:" * len(defences) + "|"]


def row(attack: str, defences: Sequence[str], found: Table) -> str:
    """Return an attack's row, the best of its medians bold; none is where all diverge."""
    best = min((found[attack, defence] for defence in defences), key=lambda outcome: outcome.median)
    bold = best.median if best.median < best.start else None
    texts = [f"**{one}**" if one.median == bold else str(one) for one in (found[attack, defence] for defence in defences)]
    return f"| {attack} | {' | '.join(texts)} |"


def error_text(value: float, start: float) -> str:
    """Return an error with one digit; where it is above the start's, that it diverged."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if value < start else "diverged"
