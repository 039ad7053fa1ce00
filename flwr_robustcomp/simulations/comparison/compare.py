"""`robustcomp compare`: run suites, and say what they show in a table, a picture, a sentence and a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.comparison.plots import Line, Panel, draw
from flwr_robustcomp.simulations.comparison.summary import Row, curves_of, headline, summarize
from flwr_robustcomp.simulations.records.curves import Curves, Observe
from flwr_robustcomp.simulations.records.record import writing
from flwr_robustcomp.simulations.runs.sweep import run_cells
from flwr_robustcomp.simulations.scenario.setup import check_all, make_problem
from flwr_robustcomp.simulations.scenario.suite import NO_ATTACK, Suite, SuiteCell

__all__ = ["Finding", "compare", "load_suite"]


@dataclass(frozen=True)
class Finding:
    """What one suite showed.

    Attributes
    ----------
    suite : Suite
        What was compared.
    rows : sequence of Row
        The table.
    sentence : str
        The table in one line.
    picture : Path
        The curves.
    nodes : int
        m.
    """

    suite: Suite
    rows: Sequence[Row]
    sentence: str
    picture: Path
    nodes: int


def load_suite(path: Path) -> Suite:
    """Read a suite file, and check that every cell can be run.

    Raises
    ------
    ConfigurationError
        In one line that names the file.
    """
    suite = Suite.from_toml(path)
    try:
        check_all(cell.scenario for cell in suite.cells())
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return suite


def compare(
    suites: dict[str, Suite],
    out: Path,
    *,
    jobs: int,
    ray_address: str | None = None,
    advance: Callable[[int], None] = lambda rounds: None,
    observe: Observe = lambda key, record: None,
) -> list[Finding]:
    """Run all cells of all suites together, and make each suite's table and picture.

    Parameters
    ----------
    suites : dict of str to Suite
        By the name that pictures and records are filed under.
    out : Path
        Folder for ``NAME.png``, ``NAME.json`` and the record of every round.
    jobs : int
        Cells at a time.
    ray_address : str, optional
        Of an existing cluster.
    advance : callable
        Called with the number of rounds just finished.
    observe : callable
        Called with the key of a cell and the record of each of its rounds.
    """
    cells = {name: suite.cells() for name, suite in suites.items()}
    curves = run_cells(
        [cell.scenario for members in cells.values() for cell in members],
        out,
        jobs=jobs,
        ray_address=ray_address,
        advance=advance,
        observe=observe,
    )
    return [_finding(name, suite, cells[name], curves, out) for name, suite in suites.items()]


def _finding(name: str, suite: Suite, cells: Sequence[SuiteCell], curves: Curves, out: Path) -> Finding:
    problem = make_problem(cells[0].scenario)
    rows = summarize(cells, curves)
    picture = out / f"{name}.png"
    draw(picture, suite.title, _panels(cells, curves), metric=problem.metric)
    sentence = headline(suite.title, cells[0].scenario.nodes, rows)
    record = {
        "suite": suite.model_dump(),
        "sentence": sentence,
        "cells": [{"cell": c.scenario.key, **vars(c.group), "seed": c.scenario.seed} for c in cells],
    }
    with writing(out / f"{name}.json"):
        (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return Finding(suite, rows, sentence, picture, cells[0].scenario.nodes)


def _panels(cells: Sequence[SuiteCell], curves: Curves) -> list[Panel]:
    """Return one panel for each setting that strategies face."""
    panels: dict[tuple[int, str], list[Line]] = {}
    compressors = {cell.group.compressor for cell in cells if cell.group.strategy == cells[0].group.strategy}
    for group, runs in curves_of(cells, curves).items():
        label = f"{group.strategy}, {group.compressor}" if len(compressors) > 1 else group.strategy
        panels.setdefault((group.byzantine, group.attack), []).append((label, runs))
    return [(_setting(byzantine, attack, cells), lines) for (byzantine, attack), lines in sorted(panels.items())]


def _setting(byzantine: int, attack: str, cells: Sequence[SuiteCell]) -> str:
    nodes = cells[0].scenario.nodes
    return f"{nodes} honest nodes" if attack == NO_ATTACK else f"{byzantine} of {nodes} Byzantine: {attack}"
