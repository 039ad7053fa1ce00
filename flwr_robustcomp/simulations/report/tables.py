"""Tables as data: shown on the page, and exported to CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MISSING", "Table"]

MISSING = "\N{EN DASH}"
"""What stands in a cell that has no value."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "δ": r"$\delta$",
    "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    "β": r"$\beta$",
    MISSING: "--",
    "\u202f": r"\,",
}


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
        What its files are called.
    caption : str
        What it shows.
    header : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        Cells as they are shown.
    labels : int
        How many of the first columns name the row; the others hold figures.
    """

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int = 1

    def csv(self) -> str:
        """Return the table as CSV (RFC 4180), the header first."""
        out = io.StringIO(newline="")
        csv.writer(out).writerows([self.header, *([cell.replace("\u202f", " ") for cell in row] for row in self.rows)])
        return out.getvalue()

    def latex(self) -> str:
        r"""Return a ``table`` for the package booktabs, labelled ``tab:NAME``."""
        columns = "l" * self.labels + "r" * (len(self.header) - self.labels)
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(self.caption)}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', self.name)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _row(self.header),
            r"\midrule",
            *map(_row, self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
