"""What a run costs on this machine: its time and its memory, kept apart from the record, which is the same everywhere."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["COSTS_FILE", "Meter"]

COSTS_FILE = "costs.jsonl"
"""One line for each run that ended: ``{"cell": key, "seconds", "seconds_per_round", "peak_memory"}``."""


class Meter:
    """Measures one run in this process, from its construction on.

    Notes
    -----
    The peak is of the whole process, interpreter and libraries included. Linux can forget an earlier run's peak, and is asked
    to; elsewhere it is the largest of all runs of the process so far.
    """

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): reset the peak resident set size
        self._marks = [time.monotonic()]

    def tick(self) -> None:
        """Note that a round has ended; the initial evaluation counts as one."""
        self._marks.append(time.monotonic())

    def cost(self) -> dict[str, Any]:
        """Return the seconds since the start, the median seconds of a round, and the peak memory in bytes, if known."""
        laps = [after - before for before, after in zip(self._marks[1:], self._marks[2:], strict=False)]
        return {
            "seconds": time.monotonic() - self._marks[0],
            "seconds_per_round": statistics.median(laps) if laps else None,
            "peak_memory": _peak_memory(),
        }


def _peak_memory() -> int | None:
    """Return the largest resident set of this process in bytes."""
    try:
        import resource  # noqa: PLC0415 (Unix only)
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
