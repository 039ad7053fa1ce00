"""What a subject found, as data, and the two ways to show it: rich on a terminal, Markdown in docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable

__all__ = ["Section", "Table", "Target", "megabytes", "milliseconds", "spread", "times"]


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first column is a label, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Target:
    """What was asked for and what was found. A missed target is printed, and is not an error: clocks are noisy."""

    what: str
    wanted: str
    found: str
    met: bool

    @property
    def verdict(self) -> str:
        """Say in one word whether it was reached."""
        return "met" if self.met else "missed"


@dataclass(frozen=True)
class Section:
    """One subject.

    Attributes
    ----------
    title : str
        Its heading.
    intro : str
        What was measured, and how.
    tables : sequence of Table
        The figures.
    targets : sequence of Target
        What they are held against.
    notes : sequence of str
        What to know when reading them.
    """

    title: str
    intro: str
    tables: Sequence[Table]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()

    def all_tables(self) -> list[Table]:
        """Return the tables, with the targets as the last one."""
        rows = [(t.what, t.wanted, t.found, t.verdict) for t in self.targets]
        return [*self.tables, *([Table("Targets", ("target", "wanted", "found", "verdict"), rows)] if rows else [])]

    def show(self, console: Console) -> None:
        """Print to a terminal."""
        console.print(f"\n[bold]{self.title}[/bold]\n{self.intro}", highlight=False)
        for table in self.all_tables():
            shown = RichTable(title=table.title, title_justify="left")
            for index, column in enumerate(table.columns):
                shown.add_column(column, justify="left" if index == 0 else "right")
            for row in table.rows:
                shown.add_row(*row, style="red" if "missed" in row else None)
            console.print(shown)
        for note in self.notes:
            console.print(f"- {note}", highlight=False, markup=False)

    def markdown(self) -> str:
        """Return Markdown."""
        parts = [f"## {self.title}", self.intro]
        for table in self.all_tables():
            head = [" | ".join(table.columns), " | ".join(["---"] + ["---:"] * (len(table.columns) - 1))]
            lines = [f"| {line} |" for line in [*head, *(" | ".join(row) for row in table.rows)]]
            parts += [f"**{table.title}**", "\n".join(lines)]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts) + "\n"


def milliseconds(seconds: float) -> str:
    """Return a duration with three significant digits."""
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def spread(seconds: Sequence[float]) -> str:
    """Return the median, with the smallest and the largest."""
    low, high = (milliseconds(end).removesuffix(" ms") for end in (min(seconds), max(seconds)))
    return f"{milliseconds(statistics.median(seconds))} ({low} to {high})"


def megabytes(count: float) -> str:
    """Return bytes in MB, 10**6 bytes."""
    return f"{count / 1e6:,.1f} MB"


def times(ratio: float) -> str:
    """Return a ratio with three significant digits."""
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"
