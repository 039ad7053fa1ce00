"""Reading a folder of records: its comparisons with their finished runs, and what is still missing.

A folder may come from somebody else, so it is data: nothing that it names is imported, and no problem, compressor or strategy
is built from it. What a report needs of those was noted when the run was recorded (`cell_index`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flwr_robustcomp.component import one_line
from flwr_robustcomp.errors import ConfigurationError, printable
from flwr_robustcomp.simulations.problems import PROBLEMS
from flwr_robustcomp.simulations.records.cell_index import described, read_cells
from flwr_robustcomp.simulations.records.cost import COSTS_FILE
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, Curves, read_curves
from flwr_robustcomp.simulations.records.provenance import RUNS_FILE
from flwr_robustcomp.simulations.records.record import LONGEST, SkippedLine, decoded, read_records
from flwr_robustcomp.simulations.records.record_lines import CellLine, CostLine, ProblemFacts, StartLine
from flwr_robustcomp.simulations.report.section import Run, Section, Setting, Study
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK, Group, Suite, SuiteCell

__all__ = ["Run", "Section", "Setting", "Study", "read_study"]

_MOST_NODES = 1_000_000
"""Of a recorded run: who lies is drawn anew from the seed, which takes memory for every node."""

_MOST_RUNS = 100_000
"""Of all recorded suites of a folder together, whose lists multiply."""

_LARGEST, _SMALLEST = 1e100, 1e-100
"""What is larger has diverged, what is smaller is zero: products and quotients of the values between stay finite."""

_KNOWN_METRICS = {"accuracy": "higher", "error": "lower", "loss": "lower"}
"""For records that do not say which metric their problem has."""


@dataclass
class _Found:
    """What the files of a folder hold."""

    curves: Curves
    costs: Mapping[str, Mapping[str, Any]]
    lines: Mapping[str, CellLine]
    skipped: list[SkippedLine] = field(default_factory=list)


def read_study(folder: Path) -> Study:
    """Read a folder that `robustcomp compare`, `run` or `reproduce` wrote to, finished or not.

    Raises
    ------
    ConfigurationError
        If it holds no record.

    Notes
    -----
    Runs no code that the folder names; see the module. A line that is no record is passed over, and listed in the study.
    """
    skipped: list[SkippedLine] = []
    starts = list(read_records(folder / RUNS_FILE, StartLine.check, skipped.append))
    if not starts and not (folder / ROUNDS_FILE).exists():
        raise ConfigurationError(f"folder must hold a record ({ROUNDS_FILE}), got {str(folder)!r}")
    found = _Found(
        read_curves(folder, skipped.append),
        {entry["cell"]: entry for entry in read_records(folder / COSTS_FILE, CostLine.check, skipped.append)},
        {line.cell: line for line in read_cells(folder, skipped.append)},
        skipped,
    )
    sections = []
    for name, suite in _suites(folder, starts, skipped.append).items():
        configuration = suite.model_dump(exclude_none=True)
        sections.append(_section(name, suite.title, suite.cells(), configuration, found))
    known = {cell.scenario.key for section in sections for cell in section.cells}
    loose, unreadable = _loose(found.lines.values(), known)
    for name, cells in loose.items():
        configuration = {"scenarios": {cell.scenario.key: cell.scenario.model_dump() for cell in cells}}
        sections.append(_section(name.split(",")[0], name, cells, configuration, found))
    if not sections:
        more = f"; {skipped[0]}" if skipped else ""
        raise ConfigurationError(
            f"folder must hold runs that this version can read, got {unreadable} others in {str(folder)!r}{more}"
        )
    return Study(folder, sections, starts, unreadable, skipped)


def _section(name: str, title: str, cells: Sequence[SuiteCell], configuration: Mapping[str, Any], found: _Found) -> Section:
    facts = _facts(cells, found)
    runs, unfinished = [], {}
    for cell in cells:
        key, rounds = cell.scenario.key, cell.scenario.rounds
        records = found.curves.get(key, [])
        # Rounds ascend and occur once each, so that round T in place T has all others before it.
        if len(records) > rounds and records[rounds]["round"] == rounds:
            line = found.lines.get(key)
            guaranteed = None if line is None else line.guaranteed_delta
            tamed = [{name: _tamed(value) for name, value in record.items()} for record in records[: rounds + 1]]
            runs.append(Run(cell, tamed, found.costs.get(key, {}), guaranteed))
        else:
            unfinished[cell] = max(0, len(records) - 1)
    return Section(name, title, cells, runs, unfinished, facts.metric, facts.better, facts.dimension, configuration)


def _tamed(value: Any) -> Any:
    """Return a recorded value with numbers that arithmetic can take: of those that diverged, null."""
    if isinstance(value, float | int):
        return None if abs(value) > _LARGEST else 0.0 if 0 < abs(value) < _SMALLEST else value
    if isinstance(value, list):
        return [_tamed(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _tamed(inner) for key, inner in value.items()}
    return value


def _facts(cells: Sequence[SuiteCell], found: _Found) -> ProblemFacts:
    """Return what is known of a comparison's problem: as noted; for older records by its name, or by what was measured."""
    for cell in cells:
        line = found.lines.get(cell.scenario.key)
        if line is not None and line.problem is not None:
            return line.problem
    made = PROBLEMS.get(cells[0].scenario.problem.name)
    if made is not None:
        return ProblemFacts(metric=getattr(made, "metric"), better=getattr(made, "better"))  # noqa: B009 (no instance is made)
    measured = {name for cell in cells for record in found.curves.get(cell.scenario.key, [])[:1] for name in record}
    metric = next((name for name in _KNOWN_METRICS if name in measured), "error")
    return ProblemFacts.model_validate({"metric": metric, "better": _KNOWN_METRICS[metric]})


def _suites(folder: Path, starts: Sequence[Mapping[str, Any]], skip: Callable[[SkippedLine], None]) -> dict[str, Suite]:
    """Return the suites that the folder's starts name; for older records those that finished, by their own files."""
    dumps: dict[str, tuple[str, Any]] = {}
    for start in starts:
        dumps |= {name: (RUNS_FILE, suite) for name, suite in start.get("suites", {}).items()}
    for path in sorted(folder.glob("*.json")):
        try:
            document = _document(path)
        except ValueError as error:
            skip(SkippedLine(printable(path.name), None, printable(str(error))))
            continue
        if "suite" in document:
            dumps.setdefault(path.stem, (path.name, document["suite"]))
    found, left = {}, _MOST_RUNS
    for name, (file, dump) in dumps.items():
        try:
            suite = Suite.model_validate(dump)
            if suite.size > _MOST_RUNS:
                raise ConfigurationError(f"it has {suite.size:,} runs, more than the {_MOST_RUNS:,} that a report shows")
            if suite.size > left:
                raise ConfigurationError(
                    f"it has {suite.size:,} runs, and those before it leave {left:,} of the {_MOST_RUNS:,} that a report shows"
                )
            left -= suite.size
            cells = suite.cells()
            _check_nodes(cells[0].scenario)
        except (ValidationError, ConfigurationError) as error:  # of another version: its runs are shown one by one, or counted
            why = str(error) if isinstance(error, ConfigurationError) else one_line(error)
            skip(SkippedLine(printable(file), None, printable(f"suite {name!r} cannot be read: {why}")))
            continue
        found[name] = suite
    return found


def _document(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; other files of a folder are no fault of it."""
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            return decoded(file.read(LONGEST + 1))
    except OSError as error:
        raise ValueError(f"is not readable: {error.strerror}") from error


def _check_nodes(scenario: Scenario) -> None:
    if scenario.nodes > _MOST_NODES:
        raise ConfigurationError(f"nodes: {scenario.nodes} are more than the {_MOST_NODES:,} that a report takes")


def _loose(lines: Iterable[CellLine], known: set[str]) -> tuple[dict[str, list[SuiteCell]], int]:
    """Return the recorded runs of no suite by what they have in common, and how many cannot be read."""
    loose: dict[str, dict[tuple[Group, int], SuiteCell]] = {}
    unreadable: set[str] = set()
    for line in lines:
        if line.cell in known:
            continue
        try:
            scenario = Scenario.parse(line.scenario)
            _check_nodes(scenario)
        except ConfigurationError:
            unreadable.add(line.cell)
            continue
        feedback = " with error feedback" if scenario.error_feedback else ""
        down = "" if scenario.downlink.name == "dense" else f", downlink {described(scenario.downlink)}"
        group = Group(
            scenario.byzantine,
            described(scenario.attack) if scenario.byzantine else NO_ATTACK,
            described(scenario.compressor),
            described(scenario.strategy) + feedback + down,
        )
        sampled = f", {scenario.sampled} sampled" if scenario.sampled else ""
        title = f"{scenario.problem.name}, {scenario.nodes} nodes{sampled}, {scenario.rounds} rounds"
        loose.setdefault(title, {})[group, scenario.seed] = SuiteCell(group, scenario)
    return {title: list(cells.values()) for title, cells in loose.items()}, len(unreadable)
