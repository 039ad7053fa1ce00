"""A folder of records as a report sees it: its comparisons, with their finished runs and what is still missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flwr_robustcomp.simulations.records.record import RoundRecord, SkippedLine
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK, SuiteCell

__all__ = ["Run", "Section", "Setting", "Study"]

Setting = tuple[int, str]
"""Byzantine nodes and attack: a column of the heat map."""


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes
    ----------
    cell : SuiteCell
        Its scenario.
    records : sequence of RoundRecord
        Rounds 0 to T.
    cost : mapping
        What it cost, where that was noted.
    guaranteed : float or None
        The delta that its compressor guarantees; None where there is no guarantee or none was noted.
    """

    cell: SuiteCell
    records: Sequence[RoundRecord]
    cost: Mapping[str, Any]
    guaranteed: float | None = None


@dataclass(frozen=True)
class Section:
    """One comparison.

    Attributes
    ----------
    name : str
        What its files are named after.
    title : str
        Its heading.
    cells : sequence of SuiteCell
        All runs that belong to it, finished or not.
    runs : sequence of Run
        The finished ones, in the order of the cells; nothing else enters any figure of the report.
    unfinished : mapping of SuiteCell to int
        The others, with the rounds recorded so far.
    metric, better : str
        The problem's.
    dimension : int or None
        d, the floating-point coordinates of its model; None for records that are older than that note.
    configuration : mapping
        The suite, or the scenarios where there was none.
    """

    name: str
    title: str
    cells: Sequence[SuiteCell]
    runs: Sequence[Run]
    unfinished: Mapping[SuiteCell, int]
    metric: str
    better: str
    dimension: int | None
    configuration: Mapping[str, Any]

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings that defences face, those without Byzantine nodes first."""
        found = dict.fromkeys((cell.group.byzantine, cell.group.attack) for cell in self.cells)
        return sorted(found, key=lambda setting: setting[0])  # stable: attacks stay in the order of the suite

    @cached_property
    def strategies(self) -> list[str]:
        """The defences, in the order of the suite."""
        return list(dict.fromkeys(cell.group.strategy for cell in self.cells))

    @cached_property
    def compressors(self) -> list[str]:
        """The compressors, in the order of the suite; the ones that a single defence brings along last."""
        users = Counter(compressor for compressor, _ in {(c.group.compressor, c.group.strategy) for c in self.cells})
        return sorted(dict.fromkeys(cell.group.compressor for cell in self.cells), key=lambda name: users[name] == 1)

    @property
    def nodes(self) -> int:
        """The number of nodes, m."""
        return self.cells[0].scenario.nodes

    def of(self, **group: Any) -> list[Run]:
        """Return the finished runs whose group has these fields."""
        names = tuple(group)
        if names not in self._indices:
            index: dict[tuple[Any, ...], list[Run]] = {}
            for run in self.runs:
                index.setdefault(tuple(getattr(run.cell.group, name) for name in names), []).append(run)
            self._indices[names] = index
        return list(self._indices[names].get(tuple(group.values()), ()))

    @cached_property
    def _indices(self) -> dict[tuple[str, ...], dict[tuple[Any, ...], list[Run]]]:
        """The runs by the fields that were asked for: a page asks once for each line, of which a folder may have thousands."""
        return {}

    def compressors_of(self, strategy: str) -> list[str]:
        """Return the compressors that a defence has runs with, in the order of all."""
        return self._pairs[0].get(strategy, [])

    def strategies_of(self, compressor: str) -> list[str]:
        """Return the defences that have runs with a compressor, in the order of all."""
        return self._pairs[1].get(compressor, [])

    def place(self, setting: Setting, strategy: str) -> tuple[int, int]:
        """Return what sorts lines by setting and defence, in the order of all."""
        return self._places[0][setting], self._places[1][strategy]

    @cached_property
    def _places(self) -> tuple[dict[Setting, int], dict[str, int]]:
        settings = {setting: place for place, setting in enumerate(self.settings)}
        return settings, {name: place for place, name in enumerate(self.strategies)}

    @cached_property
    def _pairs(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        compressors = {name: place for place, name in enumerate(self.compressors)}
        strategies = {name: place for place, name in enumerate(self.strategies)}
        of: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        for strategy, compressor in dict.fromkeys((cell.group.strategy, cell.group.compressor) for cell in self.cells):
            of[0].setdefault(strategy, []).append(compressor)
            of[1].setdefault(compressor, []).append(strategy)
        for names in of[0].values():
            names.sort(key=compressors.__getitem__)
        for names in of[1].values():
            names.sort(key=strategies.__getitem__)
        return of

    @cached_property
    def _several_counts(self) -> bool:
        return len({count for count, name in self.settings if name != NO_ATTACK}) > 1

    def name_of(self, setting: Setting) -> str:
        """Return what a setting is called: its attack, with the count where there are several."""
        byzantine, attack = setting
        if attack == NO_ATTACK:
            return "no attack"
        return f"{attack}, {byzantine} Byzantine" if self._several_counts else attack

    def value(self, record: RoundRecord) -> float:
        """Return the metric of a round; not finite where the run diverged."""
        value = record.get(self.metric)
        return float(value) if isinstance(value, int | float) else math.nan


@dataclass(frozen=True)
class Study:
    """A folder of records.

    Attributes
    ----------
    folder : Path
        Where it lies.
    sections : sequence of Section
        Its comparisons.
    starts : sequence of mapping
        What `provenance` noted at each start; empty for records that are older than that.
    unreadable : int
        Recorded runs whose scenario this version does not know.
    skipped : sequence of SkippedLine
        What stands in the folder's files and is no record.
    """

    folder: Path
    sections: Sequence[Section]
    starts: Sequence[Mapping[str, Any]]
    unreadable: int = 0
    skipped: Sequence[SkippedLine] = ()
