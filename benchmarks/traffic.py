"""Traffic both ways: ``make traffic`` runs what is missing, and writes docs/traffic.md.

Runs are recorded as they go, and an interrupted call goes on where it stopped. The page is made from the data file alone, which
holds one line per finished run. Several processes can share the work: each runs its part (``--part 2/16``) into a folder of its
own, and the page is made from all of them. With ``--jobs 1`` a process runs one cell after the other, without Ray.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.traffic_attacks import NAME as ATTACKS
from benchmarks.traffic_cells import TABLES
from benchmarks.traffic_mnist import cut
from benchmarks.traffic_outcomes import read_data, scenarios, updated
from benchmarks.traffic_page import page
from flwr_robustcomp.simulations.runs.sweep import SweepError, run_cells

__all__ = ["main"]

_DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Run what is missing, then write the data file and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traffic", description=str(__doc__).partition("\n")[0])
    folders = "folders of records; runs go into the first"
    names = [*TABLES, ATTACKS]
    parser.add_argument("--records", type=Path, nargs="+", default=[Path("out/traffic")], help=folders)
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder of traffic.md and traffic.jsonl")
    parser.add_argument("--data", type=Path, help="folder of MNIST's four IDX files; without one its tables are left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9], help="none of these chose anything")
    parser.add_argument("--tables", nargs="+", choices=names, default=names, metavar="NAME", help="run these alone")
    parser.add_argument("--part", default="1/1", help="K/N runs the K-th of N parts alone, and writes no page")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--page-only", action="store_true", help="run nothing; the data file takes what the folders have")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    if not options.page_only:
        place, parts = map(int, options.part.split("/"))
        tables = [name for name in options.tables if options.data is not None or not name.startswith("mnist")]
        if options.data is not None:
            cut(options.data)
        wanted = scenarios(options.seeds, tables)[place - 1 :: parts]
        console = Console(stderr=True)
        try:
            with Progress(console=console) as progress:
                task = progress.add_task("rounds", total=sum(one.rounds for one in wanted))
                run_cells(wanted, options.records[0], jobs=options.jobs, advance=lambda done: progress.advance(task, done))
        except SweepError as error:  # the page says which runs it lacks
            console.print(f"runs that ended early: {error}")
        if parts > 1:
            return
    data = options.docs / "traffic.jsonl"
    found = updated(read_data(data), options.seeds, options.tables, options.records)
    data.write_text(found.text(), encoding="utf-8")
    (options.docs / "traffic.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
