"""What a folder holds, as a report reads it: its comparisons with their finished runs, and what is still missing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flwr_robustcomp.component import Component
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.cost import COSTS_FILE
from flwr_robustcomp.simulations.provenance import RUNS_FILE
from flwr_robustcomp.simulations.record import RoundRecord, read_records
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.setup import make_problem
from flwr_robustcomp.simulations.suite import NO_ATTACK, Group, Suite, SuiteCell
from flwr_robustcomp.simulations.sweep import CELLS_FILE, ROUNDS_FILE, Curves, read_curves

__all__ = ["Run", "Section", "Setting", "Study", "read_study"]

Setting = tuple[int, str]
"""Byzantine nodes and attack: a column of the heat map."""


@dataclass(frozen=True)
class Run:
    """One finished run: its scenario, the record of rounds 0 to T, and what it cost, where that was noted."""

    cell: SuiteCell
    records: Sequence[RoundRecord]
    cost: Mapping[str, Any]


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
    dimension : int
        d, the floating-point coordinates of its model.
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
    dimension: int
    configuration: Mapping[str, Any]

    @property
    def settings(self) -> list[Setting]:
        """The settings that defences face, those without Byzantine nodes first."""
        found = dict.fromkeys((cell.group.byzantine, cell.group.attack) for cell in self.cells)
        return sorted(found, key=lambda setting: setting[0])  # stable: attacks stay in the order of the suite

    @property
    def strategies(self) -> list[str]:
        """The defences, in the order of the suite."""
        return list(dict.fromkeys(cell.group.strategy for cell in self.cells))

    @property
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
        return [run for run in self.runs if all(getattr(run.cell.group, key) == value for key, value in group.items())]

    def name_of(self, setting: Setting) -> str:
        """Return what a setting is called: its attack, with the count where there are several."""
        byzantine, attack = setting
        if attack == NO_ATTACK:
            return "no attack"
        several = len({count for count, name in self.settings if name != NO_ATTACK}) > 1
        return f"{attack}, {byzantine} Byzantine" if several else attack

    def value(self, record: RoundRecord) -> float:
        """Return the metric of a round; not finite where the run diverged."""
        value = record.get(self.metric)
        return math.nan if value is None else float(value)


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
    """

    folder: Path
    sections: Sequence[Section]
    starts: Sequence[Mapping[str, Any]]
    unreadable: int = 0


def read_study(folder: Path) -> Study:
    """Read a folder that `robustcomp compare`, `run` or `reproduce` wrote to, finished or not.

    Raises
    ------
    ConfigurationError
        If it holds no record.
    """
    starts = list(read_records(folder / RUNS_FILE))
    if not starts and not (folder / ROUNDS_FILE).exists():
        raise ConfigurationError(f"folder must hold a record ({ROUNDS_FILE}), got {str(folder)!r}")
    curves = read_curves(folder)
    costs = {str(entry.get("cell")): entry for entry in read_records(folder / COSTS_FILE)}
    sections = [
        _section(name, suite.title, suite.cells(), suite.model_dump(exclude_none=True), curves, costs)
        for name, suite in _suites(folder, starts).items()
    ]
    known = {cell.scenario.key for section in sections for cell in section.cells}
    loose, unreadable = _loose(folder, known)
    for name, cells in loose.items():
        configuration = {"scenarios": {cell.scenario.key: cell.scenario.model_dump() for cell in cells}}
        sections.append(_section(name.split(",")[0], name, cells, configuration, curves, costs))
    if not sections:
        raise ConfigurationError(
            f"folder must hold runs that this version can read, got {unreadable} others in {str(folder)!r}"
        )
    return Study(folder, sections, starts, unreadable)


def _section(
    name: str,
    title: str,
    cells: Sequence[SuiteCell],
    configuration: Mapping[str, Any],
    curves: Curves,
    costs: Mapping[str, Mapping[str, Any]],
) -> Section:
    runs, unfinished = [], {}
    for cell in cells:
        key, rounds = cell.scenario.key, cell.scenario.rounds
        records = curves.get(key, [])
        if [record["round"] for record in records[: rounds + 1]] == list(range(rounds + 1)):
            runs.append(Run(cell, records[: rounds + 1], costs.get(key, {})))
        else:
            unfinished[cell] = max(0, len(records) - 1)
    problem = make_problem(cells[0].scenario)
    dimension = sum(tensor.numel() for tensor in problem.initial().values() if tensor.is_floating_point())
    return Section(name, title, cells, runs, unfinished, problem.metric, problem.better, dimension, configuration)


def _suites(folder: Path, starts: Sequence[Mapping[str, Any]]) -> dict[str, Suite]:
    """Return the suites that the folder's starts name; for older records those that finished, by their own files."""
    dumps: dict[str, Any] = {}
    for start in starts:
        dumps |= start.get("suites") or {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and "suite" in document:
            dumps.setdefault(path.stem, document["suite"])
    found = {}
    for name, dump in dumps.items():
        try:
            suite = Suite.model_validate(dump)
            suite.cells()
        except (ValidationError, ConfigurationError):
            continue  # of another version: its runs are counted as unreadable
        found[name] = suite
    return found


def _loose(folder: Path, known: set[str]) -> tuple[dict[str, list[SuiteCell]], int]:
    """Return the recorded runs of no suite by what they have in common, and how many cannot be read."""
    loose: dict[str, dict[tuple[Group, int], SuiteCell]] = {}
    unreadable: set[str] = set()
    for entry in read_records(folder / CELLS_FILE):
        if (key := str(entry.get("cell"))) in known:
            continue
        try:
            scenario = Scenario.parse(entry.get("scenario"))
        except ConfigurationError:
            unreadable.add(key)
            continue
        feedback = " with error feedback" if scenario.error_feedback else ""
        group = Group(
            scenario.byzantine,
            _described(scenario.attack) if scenario.byzantine else NO_ATTACK,
            _described(scenario.compressor),
            _described(scenario.strategy) + feedback,
        )
        title = f"{scenario.problem.name}, {scenario.nodes} nodes, {scenario.rounds} rounds"
        loose.setdefault(title, {})[group, scenario.seed] = SuiteCell(group, scenario)
    return {title: list(cells.values()) for title, cells in loose.items()}, len(unreadable)


def _described(component: Component) -> str:
    return " ".join([component.name, *(f"{key}={value}" for key, value in component.params.items())])
