"""Defences and attacks on the regression: ``make robustness`` runs the suites, and this writes docs/robustness.md."""

from __future__ import annotations

import argparse
import logging
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.colluders import part, settings
from benchmarks.outcomes import ARRIVED, SUBJECT, Table, error_text, head, outcomes, row
from flwr_robustcomp.simulations.records.curves import read_curves
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK, Suite

__all__ = ["page"]

_LOSES = 3.0
"""A defence loses to another where its median error is so many times as large, and more than one can read from a few seeds."""


def page(suite: Suite, found: Table, seeds: Sequence[int]) -> str:
    """Return the first part of docs/robustness.md."""
    attacks = [NO_ATTACK, *dict.fromkeys(attack for attack, _ in found if attack != NO_ATTACK)]
    order = list(dict.fromkeys(cell.group.attack for cell in suite.cells()))
    attacks.sort(key=lambda attack: (attack != NO_ATTACK, order.index(attack)))
    defences = list(dict.fromkeys(strategy.label or strategy.name for strategy in suite.strategies))
    base, rounds = suite.base, suite.base["rounds"]
    start = statistics.median(outcome.start for outcome in found.values())
    lines = [
        "# Defences against strong attacks",
        "",
        "Made by `make robustness` (`robustcomp compare examples/robustness.toml examples/colluders.toml`, then",
        "`python -m benchmarks.robustness`), through real Flower messages: every number of this part is computed from the",
        f"record of {len(found) * len(seeds):,} runs.",
        f"The paper's regression, {base['nodes']} nodes of which {max(suite.byzantine)} are Byzantine, scaled sign,",
        f"{rounds} rounds; error ||w - w*|| from {start:.0f} at the start.",
        f"*Median over {len(seeds)} of {len(suite.seeds)} seeds (worst seed)*; bold is the",
        "best of its row; *diverged* is an error above the start's. [attacks.md](attacks.md) says what each attack does,",
        "[filters.md](filters.md) each defence. A regression has no labels to lie about: attacks on labels are in",
        "[minibatch.md](minibatch.md).",
        "",
        *head(defences),
        *(row(attack, defences, found) for attack in attacks),
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
        f"Rounds until the error is {ARRIVED:.0%} of the start's, median over the seeds, and how many nodes the filter drops",
        "in a round. A minority inside the honest scatter cannot be told from honest nodes; it can slow the",
        "descent.",
        "",
        f"| attack | {SUBJECT}: rounds | Byzantine dropped | honest dropped | fewest rounds of any defence |",
        "|---|--:|--:|--:|--:|",
        *(_pace(attack, defences, found) for attack in attacks),
    ]
    return "\n".join(lines) + "\n"


def _worst(found: Table, attacks: Sequence[str], defence: str) -> str:
    outcome = max((found[attack, defence] for attack in attacks), key=lambda one: one.median)
    return error_text(outcome.median, outcome.start)


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
                f"| {attack} | {error_text(own.median, own.start)} | {best} | "
                f"{error_text(found[attack, best].median, own.start)} | {ratio:,.0f} |"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, default=Path("examples/robustness.toml"))
    parser.add_argument("--colluders", type=Path, default=Path("examples/colluders.toml"))
    parser.add_argument("--records", type=Path, default=Path("out/robustness"))
    parser.add_argument("--out", type=Path, default=Path("docs/robustness.md"))
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    suite = Suite.from_toml(options.suite)
    curves = read_curves(options.records)
    found, seeds = outcomes(suite.cells(), curves)
    colluders = Suite.from_toml(options.colluders)
    at_shares = settings(colluders, curves)
    for name, complete in ((options.suite, seeds), (options.colluders, at_shares)):
        if not complete:
            raise SystemExit(f"{options.records}: no seed has every combination of {name} yet")
    text = page(suite, found, seeds) + "\n" + "\n".join(part(colluders, at_shares)) + "\n"
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
