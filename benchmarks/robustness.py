"""Defences and attacks on the regression: ``make robustness`` runs the suite, and this writes docs/robustness.md."""

from __future__ import annotations

import argparse
import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr_robustcomp.simulations.setup import byzantine_partitions
from flwr_robustcomp.simulations.suite import NO_ATTACK, Suite, SuiteCell
from flwr_robustcomp.simulations.sweep import Curves, read_curves

__all__ = ["Outcome", "outcomes", "page"]

SUBJECT = "spectral"
"""The row whose losses the page accounts for: `RobustCompressed` with its defaults."""

_ARRIVED = 0.01
"""A run has arrived when its error is this share of that at the start."""
_LOSES = 3.0
"""A defence loses to another where its median error is so many times as large, and more than one can read from a few seeds."""


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
        Median over the seeds of the first round with `_ARRIVED` of the start's error; infinite where there is none.
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
        median = _error(self.median, self.start)
        return f"{median} ({_error(self.finals[-1], self.start)})" if len(self.finals) > 1 else median


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
    arrivals = [next((t for t, e in enumerate(run) if e <= _ARRIVED * run[0]), math.inf) for run in errors]
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


def page(suite: Suite, found: Table, seeds: Sequence[int]) -> str:
    """Return docs/robustness.md."""
    attacks = [NO_ATTACK, *dict.fromkeys(attack for attack, _ in found if attack != NO_ATTACK)]
    order = list(dict.fromkeys(cell.group.attack for cell in suite.cells()))
    attacks.sort(key=lambda attack: (attack != NO_ATTACK, order.index(attack)))
    defences = list(dict.fromkeys(strategy.label or strategy.name for strategy in suite.strategies))
    base, rounds = suite.base, suite.base["rounds"]
    start = statistics.median(outcome.start for outcome in found.values())
    lines = [
        "# Defences against strong attacks",
        "",
        "Made by `make robustness` (`robustcomp compare examples/robustness.toml`, then `python -m benchmarks.robustness`),",
        f"through real Flower messages: every number is computed from the record of {len(found) * len(seeds):,} runs.",
        f"The paper's regression, {base['nodes']} nodes of which {max(suite.byzantine)} are Byzantine, scaled sign,",
        f"{rounds} rounds; error ||w - w*|| from {start:.0f} at the start.",
        f"*Median over {len(seeds)} of {len(suite.seeds)} seeds (worst seed)*; bold is the",
        "best of its row; *diverged* is an error above the start's. [attacks.md](attacks.md) says what each attack does,",
        "[filters.md](filters.md) each defence. A regression has no labels to lie about: attacks on labels are in",
        "[minibatch.md](minibatch.md).",
        "",
        f"| attack | {' | '.join(defences)} |",
        "|---" + "|--:" * len(defences) + "|",
        *(_row(attack, defences, found) for attack in attacks),
        f"| **worst of all** | {' | '.join(_worst(found, attacks, defence) for defence in defences)} |",
        "",
        *_survivors(found, attacks, defences),
        "",
        f"## Where `{SUBJECT}` loses, and by how much",
        "",
        *_losses(found, attacks, defences),
        "",
        "## How long each attack holds the filter up",
        "",
        f"Rounds until the error is {_ARRIVED:.0%} of the start's, median over the seeds, and how many nodes the filter drops",
        "in a round. A minority inside the honest scatter cannot be told from honest nodes; it can slow the",
        "descent.",
        "",
        f"| attack | {SUBJECT}: rounds | Byzantine dropped | honest dropped | fewest rounds of any defence |",
        "|---|--:|--:|--:|--:|",
        *(_pace(attack, defences, found) for attack in attacks),
    ]
    return "\n".join(lines) + "\n"


def _row(attack: str, defences: Sequence[str], found: Table) -> str:
    best = min(found[attack, defence].median for defence in defences)
    texts = [str(found[attack, defence]) for defence in defences]
    marked = [f"**{text}**" if found[attack, d].median == best else text for d, text in zip(defences, texts, strict=True)]
    return f"| {attack} | {' | '.join(marked)} |"


def _worst(found: Table, attacks: Sequence[str], defence: str) -> str:
    outcome = max((found[attack, defence] for attack in attacks), key=lambda one: one.median)
    return _error(outcome.median, outcome.start)


def _survivors(found: Table, attacks: Sequence[str], defences: Sequence[str]) -> list[str]:
    broken = {d: sum(found[a, d].diverged > 0 for a in attacks if a != NO_ATTACK) for d in defences}
    whole = [defence for defence, count in broken.items() if not count]
    rest = ", ".join(f"{defence} {count}" for defence, count in broken.items() if count)
    text = f"No seed of any attack drives these away from the solution: {', '.join(whole) or 'none'}."
    return [text] + ([f"Attacks under which at least one seed diverges: {rest}."] if rest else [])


def _losses(found: Table, attacks: Sequence[str], defences: Sequence[str]) -> list[str]:
    lines = []
    for attack in attacks:
        own = found[attack, SUBJECT]
        best = min(defences, key=lambda defence: found[attack, defence].median)
        ratio = own.median / found[attack, best].median if found[attack, best].median > 0 else math.inf
        if ratio > _LOSES:
            lines.append(
                f"| {attack} | {_error(own.median, own.start)} | {best} | "
                f"{_error(found[attack, best].median, own.start)} | {ratio:,.0f} |"
            )
    if not lines:
        return [f"Nowhere: no other defence ends at less than a {_LOSES:.0f}rd of its error."]
    head = [f"Attacks after which another defence ends at less than 1/{_LOSES:.0f} of its error:", ""]
    return [*head, f"| attack | {SUBJECT} | the best | its error | factor |", "|---|--:|---|--:|--:|", *lines]


def _pace(attack: str, defences: Sequence[str], found: Table) -> str:
    own = found[attack, SUBJECT]
    fastest = min(defences, key=lambda defence: found[attack, defence].arrived)
    dropped = ["-" if value is None else f"{value:.1f}" for value in (own.caught, own.lost)]
    if attack == NO_ATTACK:
        dropped[0] = "-"
    return (
        f"| {attack} | {_round(own.arrived)} | {' | '.join(dropped)} | {_round(found[attack, fastest].arrived)} ({fastest}) |"
    )


def _round(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def _error(value: float, start: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if value < start else "diverged"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, default=Path("examples/robustness.toml"))
    parser.add_argument("--records", type=Path, default=Path("out/robustness"))
    parser.add_argument("--out", type=Path, default=Path("docs/robustness.md"))
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    suite = Suite.from_toml(options.suite)
    curves = read_curves(options.records)
    found, seeds = outcomes(suite.cells(), curves)
    if not seeds:
        raise SystemExit(f"{options.records}: no seed has every combination of {options.suite} yet")
    options.out.write_text(page(suite, found, seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
