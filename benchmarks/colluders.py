"""Colluders at two shares: the second part of docs/robustness.md, from the record of examples/colluders.toml."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.outcomes import ARRIVED, SUBJECT, Outcome, Table, error_text, head, outcomes, row
from flwr_robustcomp.simulations.records.curves import Curves
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK, Suite, SuiteCell

__all__ = ["Setting", "part", "settings"]


@dataclass(frozen=True)
class Setting:
    """One table of the part: every attack and defence at one share and with one form of compression.

    Attributes
    ----------
    byzantine, nodes : int
        How many of how many collude.
    compression : str
        In words.
    found : Table
        Of the seeds that every combination of every setting has.
    seeds : tuple of int
        These seeds.
    """

    byzantine: int
    nodes: int
    compression: str
    found: Table
    seeds: tuple[int, ...]

    @property
    def title(self) -> str:
        """The share and the compression."""
        return f"{self.byzantine / self.nodes:.0%} Byzantine, {self.compression}"

    @property
    def attacks(self) -> list[str]:
        """Those of the table but `NO_ATTACK`, in the order of the suite."""
        return list(dict.fromkeys(attack for attack, _ in self.found if attack != NO_ATTACK))

    @property
    def defences(self) -> list[str]:
        """Those of the table, in the order of the suite."""
        return list(dict.fromkeys(defence for _, defence in self.found))

    @property
    def worst(self) -> str:
        """The attack after which `SUBJECT` ends farthest from the solution."""
        return max(self.attacks, key=lambda attack: self.found[attack, SUBJECT].median)


def settings(suite: Suite, curves: Curves) -> list[Setting]:
    """Return what a record holds of the suite, the shares ascending; nothing while no seed has every combination."""
    groups: dict[tuple[int, str], list[SuiteCell]] = {}
    for cell in map(_named, suite.cells()):
        groups.setdefault((cell.group.byzantine, _compression(cell)), []).append(cell)
    seeds = set.intersection(*(set(outcomes(cells, curves)[1]) for cells in groups.values()))
    if not seeds:
        return []
    found = []
    for (byzantine, compression), cells in sorted(groups.items(), key=lambda item: item[0][0]):
        complete = [cell for cell in cells if cell.scenario.seed in seeds]
        table = outcomes(complete, curves)[0]
        order = dict.fromkeys((cell.group.attack, cell.group.strategy) for cell in complete)
        nodes = cells[0].scenario.nodes
        found.append(Setting(byzantine, nodes, compression, {one: table[one] for one in order}, tuple(sorted(seeds))))
    return found


def _named(cell: SuiteCell) -> SuiteCell:
    """Call an attack that begins after the last round what it is.

    A row without Byzantine nodes would have a defence that expects none: this one has the budget of the rows below it.
    """
    begins = cell.scenario.attack.params.get("start", 1)
    return replace(cell, group=replace(cell.group, attack=NO_ATTACK)) if begins > cell.scenario.rounds else cell


def _compression(cell: SuiteCell) -> str:
    return cell.group.compressor + (" with error feedback" if cell.scenario.error_feedback else "")


def part(suite: Suite, found: Sequence[Setting]) -> list[str]:
    """Return the lines of the page's second part."""
    runs = sum(len(one.found) * len(one.seeds) for one in found)
    base, problem, seeds = suite.base, suite.base["problem"], found[0].seeds
    start = statistics.median(outcome.start for one in found for outcome in one.found.values())
    shares = " and ".join(dict.fromkeys(f"{one.byzantine / one.nodes:.0%}" for one in found))
    lines = [
        f"## Colluders at {shares}",
        "",
        f"From the record of {runs:,} more runs, of `examples/colluders.toml`: {base['nodes']} nodes,",
        f"{problem['samples']:,} samples, {problem['dimension']} dimensions, {base['rounds']} rounds, error {start:.0f} at the",
        "start.",
        f"*Median over {len(seeds)} of {len(suite.seeds)} seeds (worst seed)*; bold and *diverged* as above. Every",
        "attack is within budget: no defence is told fewer Byzantine nodes than there are, except that two filters",
        "in a row share them. *none* has the same budget and no attack. The attacks' defaults were chosen on other seeds.",
        "",
        *_wrapped(_worst_of_all(found)),
    ]
    for one in found:
        lines += [
            "",
            f"### {one.title}",
            "",
            *head(one.defences),
            *(row(attack, one.defences, one.found) for attack in [NO_ATTACK, *one.attacks]),
            "",
            *_wrapped(_verdict(one)),
        ]
    return lines


def _worst_of_all(found: Sequence[Setting]) -> str:
    """Return the sentence on the attack after which `SUBJECT` ends farthest away, and on what withstands it."""
    one = max(found, key=lambda setting: setting.found[setting.worst, SUBJECT].median)
    own, free = one.found[one.worst, SUBJECT], one.found[NO_ATTACK, SUBJECT]
    return (
        f"The worst of all for `{SUBJECT}` is {one.worst} at {one.title}: error {_plain(own)} against {_plain(free)} without"
        f" attack. {_withstood(one, one.worst)}"
    )


def _verdict(one: Setting) -> str:
    own, free = one.found[one.worst, SUBJECT], one.found[NO_ATTACK, SUBJECT]
    return (
        f"The worst for `{SUBJECT}` is {one.worst}: error {_plain(own)} against {_plain(free)} without attack."
        f" {_withstood(one, one.worst)} {_standing(one)}"
    )


def _withstood(one: Setting, attack: str) -> str:
    standing = sorted((d for d in one.defences if _stands(one.found[attack, d])), key=lambda d: one.found[attack, d].median)
    if not standing:
        return f"No defence of the table withstands it: none ends below {ARRIVED:.0%} of the start's error with every seed."
    texts = ", ".join(f"{defence} ({_plain(one.found[attack, defence])})" for defence in standing)
    return f"It is withstood, with an end below {ARRIVED:.0%} of the start's error for every seed, by {texts}."


def _standing(one: Setting) -> str:
    """Return the sentence on the defences that withstand every attack of the table."""
    standing = [d for d in one.defences if all(_stands(one.found[attack, d]) for attack in one.attacks)]
    return (
        f"Every attack of the table is withstood by {', '.join(standing)}." if standing else "No defence withstands them all."
    )


def _stands(outcome: Outcome) -> bool:
    return outcome.finals[-1] < ARRIVED * outcome.start


def _plain(outcome: Outcome) -> str:
    """Return a median error as a number, one that diverged included."""
    return error_text(outcome.median, float("inf"))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_on_hyphens=False)
