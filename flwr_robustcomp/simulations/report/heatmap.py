"""The heat map: a table of defences and attacks whose cells are coloured, so that it is its own text alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.simulations.report.section import Section, Setting
from flwr_robustcomp.simulations.report.tables import Table
from flwr_robustcomp.simulations.report.verdicts import Defence, Verdicts

__all__ = ["STEPS", "Heat", "HeatMap", "heat_map"]

STEPS = 7
"""Colours from the worst, 0, to the best."""


@dataclass(frozen=True)
class Heat:
    """One cell.

    Attributes
    ----------
    text, full : str
        The mean, and the mean with its spread.
    step : int or None
        Its colour; None where a run is missing.
    best : bool
        Whether it is the best of its column under its compressor.
    beaten : bool
        Whether the attack beats the defence.
    """

    text: str
    full: str
    step: int | None
    best: bool
    beaten: bool


@dataclass(frozen=True)
class HeatMap:
    """Cells by defence, one row each.

    Attributes
    ----------
    columns : sequence of str
        The settings.
    groups : sequence of (str, rows)
        Compressors, each with the names and cells of its defences.
    table : Table
        For exports.
    """

    columns: Sequence[str]
    groups: Sequence[tuple[str, Sequence[tuple[str, Sequence[Heat | None]]]]]
    table: Table


def heat_map(section: Section, verdicts: Verdicts) -> HeatMap:
    """Return the heat map of a comparison."""
    groups, best = [], _best(section, verdicts)
    for compressor in section.compressors:
        rows = [(name, _row(section, verdicts, Defence(compressor, name), best)) for name in section.strategies_of(compressor)]
        groups.append((compressor, rows))
    columns = [section.name_of(setting) for setting in section.settings]
    body = [
        [name, compressor, *("" if heat is None else heat.full + " *" * heat.beaten for heat in row)]
        for compressor, rows in groups
        for name, row in rows
    ]
    caption = f"{section.title}: final {section.metric}, mean ± half of the range over the seeds"
    if verdicts.comparable:
        caption += "; * the attack beats the defence"
    return HeatMap(columns, groups, Table("heat-map", caption, ["defence", "compressor", *columns], body, labels=2))


def _best(section: Section, verdicts: Verdicts) -> set[tuple[Defence, Setting]]:
    """Return the best defence of each setting under each compressor, where there are several to choose from."""
    found = set()
    for setting in section.settings:
        ranked: dict[str, list[Defence]] = {}
        for defence, final in verdicts.ranked(setting):
            if not final.diverged:
                ranked.setdefault(defence.compressor, []).append(defence)
        found |= {(of[0], setting) for of in ranked.values() if len(of) > 1}
    return found


def _row(section: Section, verdicts: Verdicts, defence: Defence, best: set[tuple[Defence, Setting]]) -> list[Heat | None]:
    row: list[Heat | None] = []
    for setting in section.settings:
        final = verdicts.finals.get((defence, setting))
        if final is None:
            row.append(None)
            continue
        goodness = verdicts.goodness(defence, setting)
        step = None if goodness is None else min(STEPS - 1, int(goodness * STEPS))
        row.append(Heat(final.short, str(final), step, (defence, setting) in best, verdicts.beaten(defence, setting)))
    return row
