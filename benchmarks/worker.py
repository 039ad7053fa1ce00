"""A case in a process of its own, which repeats it on demand and says how long it took and what memory it needed.

Fresh processes keep one case's memory out of another's peak; that they stay lets the repetitions of all cases take turns,
so that a slow moment of the machine falls on all of them.

Extra memory is the peak of the resident set (VmHWM, reset through /proc/self/clear_refs) above the resident set just before,
when garbage is collected and freed memory has been given back. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Measurement", "Step", "Worker", "status"]

Step = Callable[[], Callable[[], Any]]
"""Prepares one repetition, untimed; the function that it returns is timed. Its result must fit into JSON."""


@dataclass(frozen=True)
class Measurement:
    """One repetition."""

    seconds: float
    extra_bytes: int
    value: Any


class Worker:
    """A process that holds one case.

    Parameters
    ----------
    prepare : str
        ``"module:function"``; the function gets ``arguments`` and returns a `Step`.
    **arguments
        What fits into JSON.
    """

    def __init__(self, prepare: str, **arguments: Any) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", prepare, json.dumps(arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self) -> Measurement:
        """Let the process do one repetition."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a benchmark's process ended with status {self._process.wait()}; its reason stands above")
        return Measurement(**json.loads(line))

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let the process end; it ends by itself when its input does."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _measure(step: Step) -> Measurement:
    timed = step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts anew
    started = time.perf_counter()
    value = timed()
    seconds = time.perf_counter() - started
    return Measurement(seconds, max(0, status("VmHWM") - before), value)


def status(field: str) -> int:
    """Return a size of this process from ``/proc/self/status``, in bytes."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"this system's /proc/self/status has no {field}")
    return 1024 * int(match.group(1))


def main() -> None:
    """Be the worker: one repetition for every line of input."""
    # Whatever the case prints goes to standard error; the results have standard output for themselves.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as results:
        os.dup2(2, 1)
        module, _, function = sys.argv[1].partition(":")
        step: Step = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
        for _ in sys.stdin:
            results.write(json.dumps(asdict(_measure(step))) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
