"""docs/unlike.md, from the outcomes alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.unlike_cells import MEAN, RECIPE, ROUNDS, TABLES, Outcome

__all__ = ["page"]

_OLD = "clipping, spectral"


@dataclass(frozen=True)
class _Numbers:
    """The accuracies of a table in percent, by (partition, attack, defence), one for each seed that every cell has."""

    name: str
    seeds: Sequence[int]
    found: Mapping[tuple[str, str, str], Sequence[float]]

    def mean(self, *cell: str) -> float:
        partition, attack, defence = cell
        return statistics.fmean(self.found[partition, attack, defence])

    def worst(self, *cell: str) -> float:
        partition, attack, defence = cell
        return min(self.found[partition, attack, defence])


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the page, each table of the seeds that every cell of it has: other means are not comparable.

    Raises
    ------
    ValueError
        If a table has no such seed.
    """
    numbers = {name: _numbers(name, outcomes) for name in TABLES}
    runs = sum(len(values) for one in numbers.values() for values in one.found.values())
    lines = [
        "# Defences on unlike nodes",
        "",
        f"Made by `make unlike`: every number is computed from the record of {runs:,} runs.",
        f"A 64-32-10 network on scikit-learn's digits, {ROUNDS} rounds of one local epoch with batches of 16. Test accuracy",
        "in percent after the last round: *mean over the seeds (worst seed)*; bold is the best mean of its row. Thresholds",
        "were chosen on the seeds 0 to 4, which no table has. Every defence is told the true number of Byzantine nodes, and",
        "all have one step size.",
        "",
        f"*{RECIPE}* is that of `Settings` ([ADR 30](adr/0030-default-recipe.md)): clip lengths, drop directions that stand",
        f"out, drop what else stands out ([filters](filters.md)). *{_OLD}* is the recipe before it had `directions`.",
        "",
        *_summary(numbers["drive"]),
    ]
    for one in numbers.values():
        lines += _section(one)
    return "\n".join(lines) + "\n"


def _numbers(name: str, outcomes: Sequence[Outcome]) -> _Numbers:
    table, own = TABLES[name], [one for one in outcomes if one.table == name]
    found = {(one.partition, one.attack, one.defence, one.seed): 100 * one.accuracy for one in own}
    cells = [(p, a, d) for p in table.partitions for a in table.attacks for d in table.defences]
    seeds = [seed for seed in sorted({one.seed for one in own}) if all((*cell, seed) in found for cell in cells)]
    if not seeds:
        raise ValueError(f"no seed has every cell of {name!r} yet")
    return _Numbers(name, seeds, {cell: [found[*cell, seed] for seed in seeds] for cell in cells})


def _section(numbers: _Numbers) -> list[str]:
    table = TABLES[numbers.name]
    lines = ["", f"## {table.title}", "", f"{table.about} Seeds {', '.join(map(str, numbers.seeds))}."]
    for partition in table.partitions:
        lines += ["", f"### {table.title}: {partition}", "", f"| attack | {' | '.join(table.defences)} |"]
        lines.append("|---|" + "--:|" * len(table.defences))
        lines += [_row(numbers, partition, attack) for attack in table.attacks]
        under = [attack for attack in table.attacks if attack != "none"]
        means = [statistics.fmean(numbers.mean(partition, a, d) for a in under) for d in table.defences]
        least = [min((numbers.mean(partition, a, d), a) for a in under) for d in table.defences]
        lines.append(f"| **mean of the attacks** | {' | '.join(f'{value:.1f}' for value in means)} |")
        lines.append(f"| **worst attack** | {' | '.join(f'{value:.1f}, {name}' for value, name in least)} |")
    return lines


def _row(numbers: _Numbers, partition: str, attack: str) -> str:
    cells = [(partition, attack, defence) for defence in TABLES[numbers.name].defences]
    means = [round(numbers.mean(*cell), 1) for cell in cells]
    texts = [f"{mean:.1f} ({numbers.worst(*cell):.1f})" for cell, mean in zip(cells, means, strict=True)]
    bold = [f"**{text}**" if mean == max(means) else text for text, mean in zip(texts, means, strict=True)]
    return f"| {attack} | {' | '.join(bold)} |"


def _summary(numbers: _Numbers) -> list[str]:
    """Return what the tables say, computed from them."""
    lines = [f"*{RECIPE}* with `drive` and error feedback, against the plain mean and against the recipe before it:", ""]
    for partition in TABLES[numbers.name].partitions:
        cost = numbers.mean(partition, "none", MEAN) - numbers.mean(partition, "none", RECIPE)
        price = f"loses {cost:.1f} points" if round(cost, 1) > 0 else f"gains {-cost:.1f} points"
        lines += [
            f"- *{partition}.* Without attack it {price} against the plain mean.",
            f"  It is more than a point behind the plain mean {_behind(numbers, partition, MEAN)},",
            f"  and more than a point behind the recipe before it {_behind(numbers, partition, _OLD)}.",
            f"  Over all rows it has {_beside(numbers, partition):+.1f} points against that.",
        ]
    return lines


def _behind(numbers: _Numbers, partition: str, other: str) -> str:
    """Return where the recipe is more than a point behind another defence, in words, with the points."""
    attacks = TABLES[numbers.name].attacks
    gaps = {attack: numbers.mean(partition, attack, other) - numbers.mean(partition, attack, RECIPE) for attack in attacks}
    rows = [f"{'no attack' if attack == 'none' else attack} ({gap:.1f})" for attack, gap in gaps.items() if gap > 1]
    return f"under {', '.join(rows)}" if rows else "nowhere"


def _beside(numbers: _Numbers, partition: str) -> float:
    attacks = TABLES[numbers.name].attacks
    return statistics.fmean(numbers.mean(partition, a, RECIPE) - numbers.mean(partition, a, _OLD) for a in attacks)
