"""What every compressor costs in accuracy: ``python -m benchmarks.accuracy`` runs it, and writes docs/accuracy.md.

Runs are recorded as they go, and an interrupted call goes on where it stopped. Page and pictures are made from the data file
alone, which holds one line per finished run.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.accuracy_cells import cases, scenario_of
from benchmarks.accuracy_curves import curves_of, merged, read_curves_file, written
from benchmarks.accuracy_page import BYTES_PICTURE, ROUNDS_PICTURE, complete, page
from benchmarks.accuracy_pictures import draw_bytes, draw_rounds
from flwr_robustcomp.simulations.records.curves import read_curves
from flwr_robustcomp.simulations.runs.sweep import SweepError, run_cells

__all__ = ["main"]

_DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Run what is missing, then write the data file, the page and the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=Path, default=Path("out/accuracy"), help="folder of the record")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder of accuracy.md, accuracy.jsonl and images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument(
        "--recipes", nargs="+", metavar="NAME", help="run these alone; the data file keeps the rows of the others"
    )
    parser.add_argument("--page-only", action="store_true", help="make page and pictures anew from the data file")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    data = options.docs / "accuracy.jsonl"
    if not options.page_only:
        everything = cases(options.seeds, options.rounds)
        wanted = [case for case in everything if not options.recipes or case.recipe.name in options.recipes]
        if not wanted:
            raise SystemExit(f"--recipes must name some of {', '.join(dict.fromkeys(one.recipe.name for one in everything))}")
        scenarios = [scenario_of(case) for case in wanted]
        console = Console(stderr=True)
        try:
            with Progress(console=console) as progress:
                task = progress.add_task("rounds", total=sum(one.rounds for one in scenarios))
                run_cells(scenarios, options.records, jobs=options.jobs, advance=lambda done: progress.advance(task, done))
        except SweepError as error:  # a run whose model an attack destroyed has an accuracy too: see `curves_of`
            console.print(f"runs that ended early: {error}")
        options.docs.mkdir(parents=True, exist_ok=True)
        made = curves_of(wanted, read_curves(options.records))
        data.write_text(written(merged(read_curves_file(data) if options.recipes else [], made)), encoding="utf-8")
    curves = read_curves_file(data)
    try:
        table = complete(curves)
    except ValueError as error:
        raise SystemExit(f"{data}: {error}") from error
    (options.docs / "accuracy.md").write_text(page(curves), encoding="utf-8")
    draw_rounds(table, options.docs / "images" / ROUNDS_PICTURE)
    draw_bytes(table, options.docs / "images" / BYTES_PICTURE)


if __name__ == "__main__":
    main()
