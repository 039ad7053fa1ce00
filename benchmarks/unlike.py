"""Defences on unlike nodes: ``make unlike`` runs what is missing, and writes docs/unlike.md.

Runs are recorded as they go, and an interrupted call goes on where it stopped. The page is made from the data file alone, which
holds one line per finished run. Several machines can share the work: each runs its part of the cells (``--part 2/16``) into a
folder of its own, and the page is made from all of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.unlike_cells import TABLES, Case, Outcome, cases, scenario_of
from benchmarks.unlike_page import page
from flwr_robustcomp.simulations.records.curves import read_curves
from flwr_robustcomp.simulations.runs.sweep import run_cells

__all__ = ["main"]

_DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Run what is missing, then write the data file and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unlike", description=str(__doc__).partition("\n")[0])
    folders = "folders of records; runs go into the first"
    parser.add_argument("--records", type=Path, nargs="+", default=[Path("out/unlike")], help=folders)
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder of unlike.md and unlike.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9], help="none of these chose anything")
    parser.add_argument(
        "--tables", nargs="+", choices=list(TABLES), default=list(TABLES), metavar="NAME", help="run these alone"
    )
    parser.add_argument("--part", default="1/1", help="K/N runs the K-th of N parts alone, and writes no page")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--page-only", action="store_true", help="make the page anew from the data file")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    data, wanted = options.docs / "unlike.jsonl", cases(options.seeds, options.tables)
    if not options.page_only:
        place, parts = map(int, options.part.split("/"))
        scenarios = [scenario_of(case) for case in wanted[place - 1 :: parts]]
        if parts > 1 or len(options.records) == 1:
            with Progress(console=Console(stderr=True)) as progress:
                task = progress.add_task("rounds", total=sum(one.rounds for one in scenarios))
                run_cells(scenarios, options.records[0], jobs=options.jobs, advance=lambda done: progress.advance(task, done))
        if parts > 1:
            return
        data.write_text(_written(_known(data), wanted, options.records), encoding="utf-8")
    outcomes = [Outcome.from_json(line) for line in data.read_text(encoding="utf-8").splitlines()]
    (options.docs / "unlike.md").write_text(page(outcomes), encoding="utf-8")


def _known(data: Path) -> list[Outcome]:
    """Return what the data file holds already: rows of other tables and seeds stay."""
    lines = data.read_text(encoding="utf-8").splitlines() if data.exists() else []
    return [Outcome.from_json(line) for line in lines]


def _written(known: Sequence[Outcome], wanted: Sequence[Case], folders: Sequence[Path]) -> str:
    """Return the text of the data file: one finished run a line, table by table and seed by seed."""
    curves = {key: records for folder in folders for key, records in read_curves(folder).items()}
    outcomes = {(one.table, one.seed, one.partition, one.attack, one.defence): one for one in known}
    for case in wanted:
        scenario = scenario_of(case)
        records = curves.get(scenario.key, ())
        if len(records) == scenario.rounds + 1:
            outcomes[case.table, case.seed, case.partition, case.attack, case.defence] = Outcome.of(case, records)
    order = {case: place for place, case in enumerate(cases(sorted({one.seed for one in outcomes.values()})))}
    ranked = sorted(outcomes.values(), key=lambda one: order[Case(one.table, one.partition, one.attack, one.defence, one.seed)])
    return "".join(json.dumps(one.as_json()) + "\n" for one in ranked)


if __name__ == "__main__":
    main()
