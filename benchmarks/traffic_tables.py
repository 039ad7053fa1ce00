"""The tables and verdicts of docs/traffic.md, from outcomes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.traffic_cells import BASE, DOWNS, ONE_BIT, OURS, PARTITIONS, TABLES, UPLINK
from benchmarks.traffic_outcomes import Outcome

__all__ = ["EARLY", "MOST_LOST", "TARGET", "Rows", "rows", "table", "verdicts", "whole"]

TARGET = 0.95
"""Of dense FedAvg's final accuracy: what has to be reached."""

EARLY = 10
"""The round whose accuracy shows the lag."""

MOST_LOST = 0.5
"""Points of accuracy; a lag as small as that counts as none."""


@dataclass(frozen=True)
class Rows:
    """The outcomes of one table and partition, by how the model travels; each of the same seeds.

    Attributes
    ----------
    name, partition : str
        Of `TABLES` and `PARTITIONS`.
    seeds : tuple of int
        Those that every row has that has any; means over others are not comparable.
    found : dict of str to sequence of Outcome
        By the labels of `DOWNS`; a row without a run is missing.
    """

    name: str
    partition: str
    seeds: tuple[int, ...]
    found: dict[str, Sequence[Outcome]]

    @property
    def target(self) -> float:
        """The accuracy that has to be reached."""
        return TARGET * statistics.fmean(one.accuracy[-1] for one in self.found[BASE])

    def final(self, down: str) -> float:
        """Return the mean accuracy after the last round, in percent."""
        return 100 * statistics.fmean(one.accuracy[-1] for one in self.found[down])

    def worst(self, down: str) -> float:
        """Return the least accuracy after the last round, in percent."""
        return 100 * min(one.accuracy[-1] for one in self.found[down])

    def early(self, down: str) -> float:
        """Return the mean accuracy after round `EARLY`, in percent."""
        return 100 * statistics.fmean(one.accuracy[EARLY] for one in self.found[down])

    def a_round(self, down: str) -> tuple[float, float]:
        """Return the mean bytes of a round, up and down, per node that takes part."""
        replies = TABLES[self.name].replies
        up = statistics.fmean(statistics.fmean(one.up) for one in self.found[down]) / replies
        return up, statistics.fmean(statistics.fmean(one.down_bytes) for one in self.found[down]) / replies

    def spent(self, down: str) -> float | None:
        """Return the mean bytes until the target; None where a run does not reach it."""
        each = [one.bytes_to(self.target) for one in self.found[down]]
        reached = [one for one in each if one is not None]
        return statistics.fmean(reached) if len(reached) == len(each) else None

    def ratio(self, down: str) -> float | None:
        """Return how many times as many bytes dense FedAvg needs."""
        dense, own = self.spent(BASE), self.spent(down)
        return None if dense is None or own is None else dense / own


def rows(name: str, partition: str, outcomes: Sequence[Outcome]) -> Rows | None:
    """Return what there is of a table and partition; None before dense FedAvg has a run that the others share."""
    own = [one for one in outcomes if (one.table, one.partition) == (name, partition)]
    seeds = {down: {one.seed for one in own if one.down == down} for down in DOWNS}
    if not seeds[BASE]:
        return None
    shared = set.intersection(*(found for found in seeds.values() if found & seeds[BASE]))
    found = {down: [one for one in own if one.down == down and one.seed in shared] for down in DOWNS}
    return (
        Rows(name, partition, tuple(sorted(shared)), {down: runs for down, runs in found.items() if runs}) if shared else None
    )


def table(found: Rows) -> list[str]:
    """Return the rows as Markdown; those without a run are empty."""
    head = ("final accuracy (worst)", f"round {EARLY}", "bytes up", "bytes down", "total to reach it", "times fewer")
    lines = [f"| | {' | '.join(head)} |", "|---" + "|--:" * len(head) + "|"]
    return lines + [f"| {_label(down)} | {_row(found, down)} |" for down in DOWNS]


def _label(down: str) -> str:
    return f"**{down}**" if down == OURS else down


def _row(found: Rows, down: str) -> str:
    if down not in found.found:
        return " | ".join([""] * 6)
    up, sent = found.a_round(down)
    spent, ratio = found.spent(down), found.ratio(down)
    total = "not reached" if spent is None else f"{spent / 1e6:.2f} MB"
    times = "" if ratio is None else f"{ratio:.1f}"
    final = f"{found.final(down):.1f} ({found.worst(down):.1f})"
    return f"{final} | {found.early(down):.1f} | {up:,.0f} | {sent:,.0f} | {total} | {times}"


def verdicts(every: Sequence[Rows]) -> list[str]:
    """Return what the adaptive replica has to reach, what it reaches, and whether that is enough."""
    lines = [f"| | times fewer bytes | wanted | final accuracy against dense | lag at round {EARLY}, 1 bit → adaptive | met |"]
    lines.append("|---|--:|--:|--:|--:|---|")
    return lines + [_verdict(found) for found in every if OURS in found.found]


def _verdict(found: Rows) -> str:
    wanted, ratio = TABLES[found.name].wanted, found.ratio(OURS)
    lost = found.final(OURS) - found.final(BASE)
    misses = [] if ratio is not None and round(ratio, 1) >= wanted else ["bytes"]
    misses += [] if round(lost, 1) >= -MOST_LOST else ["accuracy"]
    lag = ""
    if {UPLINK, ONE_BIT} <= found.found.keys():
        before, after = (found.early(UPLINK) - found.early(down) for down in (ONE_BIT, OURS))
        lag = f"{before:.1f} → {after:.1f}"
        misses += [] if round(after, 1) <= max(round(before, 1) / 2, MOST_LOST) else ["lag"]
    met = f"**no**: {', '.join(misses)}" if misses else "yes"
    times = "not reached" if ratio is None else f"{ratio:.1f}"
    return f"| {TABLES[found.name].title}, {found.partition} | {times} | {wanted:g} | {lost:+.1f} | {lag} | {met} |"


def whole(every: Sequence[Rows]) -> bool:
    """Whether nothing is missing."""
    return len(every) == len(TABLES) * len(PARTITIONS) and all(found.found.keys() == DOWNS.keys() for found in every)
