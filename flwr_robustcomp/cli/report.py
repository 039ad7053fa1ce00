"""`robustcomp report`: one page of what a folder's runs show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flwr_robustcomp.cli import console
from flwr_robustcomp.simulations.report import report

__all__ = ["report_command"]


def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder that compare, run or reproduce wrote to.")],
    csv: Annotated[Path | None, typer.Option(help="Folder for every table as CSV.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Folder for every table as LaTeX (booktabs).")] = None,
    figures: Annotated[str | None, typer.Option(help="svg or pdf: also draw the pictures, into FOLDER/figures.")] = None,
) -> None:
    """Make one self-contained HTML page of what a folder's runs show, finished or not."""
    page, words, files = report(folder, csv=csv, latex=latex, figures=figures)  # type: ignore[arg-type]  # checked there
    for line in words:
        # Names come from the records: square brackets and colons in them are no markup.
        console.out.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)
    exported = f" and {len(files)} files" if files else ""
    console.out.print(f"\nreport: {page}{exported}", highlight=False, soft_wrap=True, markup=False, emoji=False)
