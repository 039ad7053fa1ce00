"""`robustcomp report`: what a folder of records shows, as one self-contained page, with its tables and pictures as files.

Builds on `records` and `scenario`, and on the names in `problems`. It starts no run.
"""

from __future__ import annotations

from pathlib import Path

from flwr_robustcomp.errors import ConfigurationError, printable
from flwr_robustcomp.files import foreign_link, replace_file
from flwr_robustcomp.simulations.report.export import Format, check_format, export_figures, export_tables
from flwr_robustcomp.simulations.report.page import chapters, left_out, render_page
from flwr_robustcomp.simulations.report.study import read_study

__all__ = ["PAGE_FILE", "report"]

PAGE_FILE = "report.html"
"""The page, in the folder of the records."""

_LONGEST = 2000
"""Characters of a printed line: names in a record may be of any length."""


def report(
    folder: Path,
    *,
    csv: Path | None = None,
    latex: Path | None = None,
    figures: Format | None = None,
) -> tuple[Path, list[str], list[Path]]:
    """Write the report of a folder; an unfinished comparison is reported as far as it got.

    Parameters
    ----------
    folder : Path
        That `robustcomp compare`, `run` or `reproduce` wrote to.
    csv, latex : Path, optional
        Folders for the tables in these forms.
    figures : {"svg", "pdf"}, optional
        Also draw the pictures, into ``FOLDER/figures``.

    Returns
    -------
    page : Path
        ``FOLDER/report.html``.
    words : list of str
        The summaries, and what could not be read; fit to be printed, whatever the folder calls its runs.
    files : list of Path
        Everything else that was written.

    Raises
    ------
    ConfigurationError
        If the folder holds no record, or something cannot be written, or a folder to write to is a link inside it.
    """
    check_format(figures)
    study = read_study(folder)
    parts = chapters(study)
    page = folder / PAGE_FILE
    pictures = None if figures is None else folder / "figures"
    try:
        # A link on the way, in a folder that somebody else made, would have everything written where they like.
        for name, target in (("csv", csv), ("latex", latex), ("figures", pictures)):
            if target is not None and (link := foreign_link(target, folder)):
                raise ConfigurationError(f"{name} must go to a folder of its own, got a link at {str(link)!r}")
        replace_file(page, render_page(study, parts).encode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"folder must be writable, got {str(folder)!r}: {error.strerror}") from error
    files: list[Path] = []
    if csv is not None:
        files += export_tables(parts, csv, "csv")
    if latex is not None:
        files += export_tables(parts, latex, "tex")
    if figures is not None and pictures is not None:
        files += export_figures(parts, pictures, figures)
    words = [*(line for part in parts for line in part.words), *left_out(study)]
    return page, [printable(line, _LONGEST) for line in words], files
