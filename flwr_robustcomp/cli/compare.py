"""`robustcomp compare`: suites of scenarios."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flwr_robustcomp.cli import console
from flwr_robustcomp.cli.console import BOARD, Bar, cores, interruptible
from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.comparison.compare import Finding, compare, load_suite
from flwr_robustcomp.simulations.comparison.summary import format_metric
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE
from flwr_robustcomp.simulations.records.provenance import note_start
from flwr_robustcomp.simulations.records.tensorboard import tensorboard
from flwr_robustcomp.simulations.runs.run import quiet_flower

__all__ = ["compare_command"]


def compare_command(
    suites: Annotated[list[Path], typer.Argument(help="Suites as TOML, run together.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, pictures and the record.")] = Path("out/compare"),
    jobs: Annotated[int | None, typer.Option(help="Runs at a time; by default one for each core.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="HOST:PORT of an existing Ray cluster, or auto.")] = None,
    board: Annotated[Path | None, BOARD] = None,
) -> None:
    """Compare strategies x compressors x attacks x Byzantine counts x seeds."""
    with quiet_flower():  # each cell is built to see that it can be, and Flower's strategies have something to say each time
        loaded = {path.stem: load_suite(path) for path in suites}
        cells = {name: suite.cells() for name, suite in loaded.items()}
    require(len(loaded) == len(suites), "suites", [p.stem for p in suites], "files of different names")
    require(jobs is None or jobs >= 1, "jobs", jobs, "at least 1")
    total = sum(cell.scenario.rounds for members in cells.values() for cell in members)
    names = {cell.scenario.key: f"{name}/{cell.name}" for name, members in cells.items() for cell in members}
    with quiet_flower(), interruptible(out), tensorboard(board, names) as write, Bar("comparing", total) as bar:
        note_start(out, sys.argv[1:], loaded)
        findings = compare(
            loaded,
            out,
            jobs=cores() if jobs is None else jobs,
            ray_address=ray_address,
            advance=bar.advance,
            observe=write,
        )
    for finding in findings:
        for table in _suite_tables(finding):
            console.out.print()
            console.out.print(table)
    for finding in findings:
        console.out.print()
        # Names come from the suites: square brackets and colons in them are no markup.
        console.out.print(finding.sentence, highlight=False, soft_wrap=True, markup=False, emoji=False)
        console.out.print(f"  picture: {finding.picture}", highlight=False, soft_wrap=True)
    console.out.print(f"\nEvery round of every run: {out / ROUNDS_FILE}", highlight=False, soft_wrap=True)


def _suite_tables(finding: Finding) -> Iterator[Table]:
    """Yield a comparison as one table for each setting that the strategies faced."""
    nodes = finding.nodes
    settings = sorted({(row.group.byzantine, row.group.attack) for row in finding.rows})
    for byzantine, attack in settings:
        where = f"{byzantine} of {nodes} nodes Byzantine: {attack}" if byzantine else f"{nodes} honest nodes"
        metric = finding.rows[0].metric
        table = Table(title=Text(f"{finding.suite.title}, {where}"), title_justify="left", title_style="bold")
        table.add_column("strategy")
        table.add_column("compressor")
        for name in (f"final {metric}", "Byzantine trimmed", "bytes/update"):
            table.add_column(name, justify="right")
        for row in finding.rows:
            if (row.group.byzantine, row.group.attack) == (byzantine, attack):
                value = format_metric(metric, row.final)
                if len(finding.suite.seeds) > 1:
                    value += f" ±{format_metric(metric, row.spread / 2)}"
                found = "-" if row.found is None else f"{row.found:.0%}"
                names = Text(row.group.strategy), Text(row.group.compressor)
                table.add_row(*names, value, found, f"{row.bytes_per_update:,.0f}")
        yield table
