"""docs/unlike.md, from the outcomes alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.unlike_cells import ATTACKS, BYZANTINE, DEFENCES, MEAN, NODES, PARTITIONS, RECIPE, ROUNDS, Outcome

__all__ = ["page"]

_NEW = tuple(DEFENCES)[-1]


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the page, of the seeds that every cell has: other means are not comparable.

    Raises
    ------
    ValueError
        If there is no such seed.
    """
    table = {(one.partition, one.attack, one.defence, one.seed): 100 * one.accuracy for one in outcomes}
    cells = [(p, a, d) for p in PARTITIONS for a in ATTACKS for d in DEFENCES]
    seeds = [seed for seed in sorted({one.seed for one in outcomes}) if all((*cell, seed) in table for cell in cells)]
    if not seeds:
        raise ValueError("no seed has every cell yet")

    def mean(partition: str, attack: str, defence: str) -> float:
        return statistics.fmean(table[partition, attack, defence, seed] for seed in seeds)

    def worst(partition: str, attack: str, defence: str) -> float:
        return min(table[partition, attack, defence, seed] for seed in seeds)

    lines = [
        "# Defences on unlike nodes",
        "",
        f"Made by `make unlike`: every number is computed from the record of {len(cells) * len(seeds):,} runs.",
        f"A 64-32-10 network on scikit-learn's digits, {NODES} nodes, {BYZANTINE} of them Byzantine, {ROUNDS} rounds of one",
        "local epoch with batches of 16, `drive` with error feedback. Test accuracy in percent after the last round:",
        f"*mean over the seeds {seeds[0]} to {seeds[-1]} (worst seed)*; bold is the best mean of its row. Thresholds were",
        "chosen on the seeds 0 to 4. Every defence is told the true number of Byzantine nodes, and all have one step size.",
        "",
        f"*{RECIPE}* is the recipe of `Settings` ([ADR 30](adr/0030-default-recipe.md)). *{_NEW}* has `directions`",
        "between its two filters: the spectral filter on unit vectors, in one budget with the plain one after it",
        "([filters](filters.md)).",
        "",
        *_summary(mean),
    ]
    for partition in PARTITIONS:
        lines += ["", f"## {partition}", "", f"| attack | {' | '.join(DEFENCES)} |", "|---|" + "--:|" * len(DEFENCES)]
        for attack in ATTACKS:
            best = max(round(mean(partition, attack, defence), 1) for defence in DEFENCES)
            row = []
            for defence in DEFENCES:
                text = f"{mean(partition, attack, defence):.1f} ({worst(partition, attack, defence):.1f})"
                row.append(f"**{text}**" if round(mean(partition, attack, defence), 1) == best else text)
            lines.append(f"| {attack} | {' | '.join(row)} |")
        under = [a for a in ATTACKS if a != "none"]
        means = [statistics.fmean(mean(partition, a, d) for a in under) for d in DEFENCES]
        least = [min((mean(partition, a, d), a) for a in under) for d in DEFENCES]
        lines.append(f"| **mean of the attacks** | {' | '.join(f'{value:.1f}' for value in means)} |")
        lines.append(f"| **worst attack** | {' | '.join(f'{value:.1f}, {name}' for value, name in least)} |")
    return "\n".join(lines) + "\n"


def _summary(mean: Callable[[str, str, str], float]) -> list[str]:
    """Return what the tables say, computed from them."""
    lines = [f"*{_NEW}*, against the plain mean and against the recipe:", ""]
    for partition in PARTITIONS:
        cost = mean(partition, "none", MEAN) - mean(partition, "none", _NEW)
        price = f"loses {cost:.1f} points" if round(cost, 1) > 0 else f"gains {-cost:.1f} points"
        lines += [
            f"- *{partition}.* Without attack it {price} against the plain mean.",
            f"  It is more than a point behind the plain mean {_behind(partition, MEAN, mean)},",
            f"  and more than a point behind the recipe {_behind(partition, RECIPE, mean)}.",
            f"  Over all rows it has {_beside(partition, mean):+.1f} points against the recipe.",
        ]
    return lines


def _behind(partition: str, other: str, mean: Callable[[str, str, str], float]) -> str:
    """Return where the new chain is more than a point behind another defence, in words, with the points."""
    gaps = {attack: mean(partition, attack, other) - mean(partition, attack, _NEW) for attack in ATTACKS}
    rows = [f"{'no attack' if attack == 'none' else attack} ({gap:.1f})" for attack, gap in gaps.items() if gap > 1]
    return f"under {', '.join(rows)}" if rows else "nowhere"


def _beside(partition: str, mean: Callable[[str, str, str], float]) -> float:
    return statistics.fmean(mean(partition, attack, _NEW) - mean(partition, attack, RECIPE) for attack in ATTACKS)
