"""Living processes that carry a mark in their environment, and their descendants, found through Linux's /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Family", "Process"]


class Process(NamedTuple):
    """A process, told from a later one with the same pid by its start in clock ticks since boot."""

    pid: int
    start: int


class Family:
    """The processes whose environment holds an entry, such as ``"OWNER=<random token>"``, and all their descendants."""

    def __init__(self, entry: str) -> None:
        self._needle = entry.encode()
        self._seen: set[Process] = set()

    def living(self) -> frozenset[Process]:
        """Return those that live now."""
        table = dict(_process_table())
        # What was seen once stays ours, also where a process hides its environment later on.
        owned = {process for process in table if process in self._seen or _has_in_environ(process.pid, self._needle)}
        pids = {process.pid for process in owned}
        grew = True
        while grew:
            children = {process for process, parent in table.items() if parent in pids and process not in owned}
            owned |= children
            pids |= {process.pid for process in children}
            grew = bool(children)
        self._seen |= owned
        return frozenset(owned)

    def end(self, *, grace: float) -> None:
        """End them all: SIGTERM, then SIGKILL after ``grace`` seconds."""
        deadline = time.monotonic() + grace
        _signal_all(self.living(), signal.SIGTERM)
        while self.living() and time.monotonic() < deadline:
            time.sleep(0.05)
        deadline = time.monotonic() + 10.0
        while remaining := self.living():
            if time.monotonic() > deadline:
                raise RuntimeError(f"could not end {sorted(process.pid for process in remaining)}")
            _signal_all(remaining, signal.SIGKILL)
            time.sleep(0.05)


def _process_table() -> Iterator[tuple[Process, int]]:
    """Yield every living process (zombies are not) and its parent's pid."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
            if fields[0] not in {"Z", "X"}:
                yield Process(int(entry), int(fields[19])), int(fields[1])


def _has_in_environ(pid: int, needle: bytes) -> bool:
    try:
        return needle in Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or gone
        return False


def _signal_all(processes: frozenset[Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
