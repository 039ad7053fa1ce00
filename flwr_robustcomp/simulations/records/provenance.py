"""Where results come from: the command, the versions and the machine, noted before the first round."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr_robustcomp.simulations.records.record import Recorder
from flwr_robustcomp.simulations.scenario.suite import Suite

__all__ = ["RUNS_FILE", "VERSIONS_OF", "note_start"]

RUNS_FILE = "runs.jsonl"
"""One line for each command that wrote to the folder, so that a resumed comparison keeps the account of its start."""

VERSIONS_OF = ("flwr-robustcomp", "flwr", "numpy", "ray", "torch")
"""The packages whose versions can change a result."""


def note_start(out: Path, arguments: Sequence[str], suites: Mapping[str, Suite] | None = None) -> None:
    """Append to a folder's account what is about to run.

    Parameters
    ----------
    out : Path
        The folder of the record.
    arguments : sequence of str
        Of the command line, without the program's name.
    suites : mapping of str to Suite, optional
        What is compared, by name: a report knows from it which runs are still missing.
    """
    entry: dict[str, Any] = {
        # A path that is no Unicode text, as Python holds it, is no JSON that a reader takes.
        "command": shlex.join(["robustcomp", *arguments]).encode("utf-8", "backslashreplace").decode(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {name: version for name in VERSIONS_OF if (version := _version(name)) is not None},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
        "suites": {name: suite.model_dump() for name, suite in (suites or {}).items()},
    }
    with Recorder(out / RUNS_FILE) as recorder:
        recorder(entry)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
