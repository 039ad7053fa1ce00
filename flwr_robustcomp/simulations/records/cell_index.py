"""The index of a folder's runs: which scenario a key stands for, and what only the run that can build it knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from flwr_robustcomp.component import Component
from flwr_robustcomp.errors import ConfigurationError, printable
from flwr_robustcomp.simulations.records.record import RoundRecord, SkippedLine, read_records
from flwr_robustcomp.simulations.records.record_lines import CellLine
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import make_packing, make_problem
from flwr_robustcomp.strategies.guarantee import delta_of_spans

__all__ = ["CELLS_FILE", "cell_lines", "check_folder", "described", "read_cells"]

CELLS_FILE = "cells.jsonl"
"""One line for each cell: ``{"cell": key, "scenario": {...}, "problem": {...}, "guaranteed_delta": ...}``."""


def cell_lines(scenarios: Iterable[Scenario]) -> Iterator[RoundRecord]:
    """Yield the lines of some scenarios in the index.

    The metric, its better end, the model's dimension and the compressor's guarantee stand in it, so that a report need build
    neither problem nor compressor: the folder may come from somebody else.
    """
    facts: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Tensor]] = {}
    for scenario in scenarios:
        # The cells of a comparison share problems but for the seed, which changes none of the facts.
        name = json.dumps([scenario.problem.model_dump(), scenario.nodes], sort_keys=True)
        if name not in facts:
            problem = make_problem(scenario)
            models[name] = problem.initial()
            dimension = sum(tensor.numel() for tensor in models[name].values() if tensor.is_floating_point())
            facts[name] = {"metric": problem.metric, "better": problem.better, "dimension": dimension}
        packing = make_packing(scenario)
        yield {
            "cell": scenario.key,
            "scenario": scenario.model_dump(),
            "problem": facts[name],
            "guaranteed_delta": delta_of_spans(packing.spans(packing.layout(models[name]))),
        }


def read_cells(out: Path, skip: Callable[[SkippedLine], None] = lambda line: None) -> list[CellLine]:
    """Return the lines of a folder's index."""
    return [CellLine.model_validate(record) for record in read_records(out / CELLS_FILE, CellLine.check, skip)]


def check_folder(out: Path, scenario: Scenario) -> None:
    """Raise `ConfigurationError` if a folder holds a run of another scenario: a report would take the two for a comparison."""
    others = {line.cell: line.scenario for line in read_cells(out) if line.cell != scenario.key}
    if others:
        first = next(iter(others.values()))
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigurationError(
            f"out must hold no other scenario than the one to run, got {str(out)!r} with {_in_words(first)}{more}; "
            "give another --out, or delete the folder"
        )


def described(component: Component) -> str:
    """Return a component's name and its parameters."""
    return " ".join([component.name, *(f"{key}={value}" for key, value in component.params.items())])


def _in_words(fields: dict[str, Any]) -> str:
    """Return what tells a recorded scenario from others, as far as it can be read."""
    try:
        one = Scenario.parse(fields)
    except ConfigurationError:
        return "a scenario that this version cannot read"
    attack = f"{one.byzantine} x {described(one.attack)}" if one.byzantine else "no attack"
    parts = (one.problem.name, f"{one.nodes} nodes", attack, described(one.compressor), described(one.strategy))
    return printable(f"{', '.join(parts)}, {one.rounds} rounds, seed {one.seed}")
