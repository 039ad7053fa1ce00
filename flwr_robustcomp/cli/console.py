"""What the commands share: where they print, how they fail, and the progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE

__all__ = ["BOARD", "CONFIGURATION", "FAILED", "Bar", "cores", "fail", "interruptible", "number", "out"]

BOARD = typer.Option("--tensorboard", help="Folder for TensorBoard's curves as well.")
"""The option of the commands that run something."""

CONFIGURATION, FAILED, INTERRUPTED = 2, 1, 130
"""Exit statuses."""


out = Console()
if not out.is_terminal:  # a file or a pipe has no width, and tables folded to 80 columns are hard to read
    out = Console(width=140)
_err = Console(stderr=True)


def fail(line: str, status: int) -> NoReturn:
    """Print one line and end."""
    # Not through rich, which would wrap the line and colour its quotes.
    print(f"robustcomp: {line}", file=sys.stderr)
    sys.exit(status)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number(value: float | None) -> float:
    """Return a recorded value as a float; null stands for one that JSON could not hold."""
    return float("inf") if value is None else float(value)


@contextmanager
def interruptible(folder: Path) -> Iterator[None]:
    """Turn Ctrl-C into one line that says where the rounds recorded so far are."""
    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; the rounds so far are in {folder / ROUNDS_FILE}", INTERRUPTED)


class Bar:
    """A progress bar that appears with the first round, so that a bad configuration prints its one line only."""

    def __init__(self, text: str, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=_err)
        self._task = self._progress.add_task(text, total=total)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Take the bar away."""
        if self._progress.live.is_started:  # stopping one that never appeared prints an empty line
            self._progress.stop()

    def advance(self, rounds: int, *, total: int | None = None, text: str | None = None) -> None:
        """Move the bar."""
        self._progress.start()
        self._progress.update(self._task, advance=rounds, total=total, description=text)
