"""`robustcomp compressors`: one table of all compressors, measured here and now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from flwr_robustcomp.cli import console
from flwr_robustcomp.cli.console import Bar
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.comparison.compressor_table import COLUMNS, as_markdown, cells, measure
from flwr_robustcomp.theory import CATALOGUE

__all__ = ["compressors_command"]


def compressors_command(
    dimension: Annotated[int, typer.Option(help="d of the vectors.")] = 100_000,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table there, as Markdown.")] = None,
) -> None:
    """Measure every compressor: bits, entropy, delta on three vectors, speed beside a memory copy."""
    with Bar("compressors", sum(len(entry.configurations) for entry in CATALOGUE.values())) as bar:
        rows = measure(dimension, lambda: bar.advance(1))
    title = f"One vector of d = {dimension:,} float32; MB/s and memory copies (docs/compressors.md)"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for index, name in enumerate(COLUMNS):
        # A configuration that is folded can no longer be read, or copied.
        table.add_column(name, justify="right" if index else "left", overflow="fold", no_wrap=not index)
    for row in rows:
        table.add_row(*cells(row))
    console.out.print(table)
    if markdown is not None:
        try:
            markdown.write_text(as_markdown(rows, dimension), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"markdown must be a writable file, got {str(markdown)!r}: {error.strerror}") from error
        console.out.print(f"written to {markdown}", highlight=False, soft_wrap=True)
