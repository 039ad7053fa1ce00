"""The rounds of many runs in one file, read back by run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr_robustcomp.simulations.records.record import RoundRecord, SkippedLine, read_records
from flwr_robustcomp.simulations.records.record_lines import RoundLine

__all__ = ["ROUNDS_FILE", "Curves", "Observe", "read_curves"]

ROUNDS_FILE = "rounds.jsonl"
"""One line for each round of each cell, written as it ends: ``{"cell": key, "round": t, ...}``."""

Curves = dict[str, list[RoundRecord]]
"""The records of each cell, by key, rounds ascending from 0."""

Observe = Callable[[str, RoundRecord], None]
"""(key of a cell, record of a round) as they come in."""


def read_curves(out: Path, skip: Callable[[SkippedLine], None] = lambda line: None) -> Curves:
    """Read what a folder holds so far; of a round that was recorded twice, the later record counts.

    Parameters
    ----------
    out : Path
        Folder of the record.
    skip : callable
        Called with every line that is no round of a run.
    """
    by_cell: dict[str, dict[int, RoundRecord]] = {}
    for record in read_records(out / ROUNDS_FILE, RoundLine.check, skip):
        by_cell.setdefault(record.pop("cell"), {})[record["round"]] = record
    return {cell: [rounds[t] for t in sorted(rounds)] for cell, rounds in by_cell.items()}
