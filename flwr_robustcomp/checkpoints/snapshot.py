"""What a checkpoint holds, and the one file that holds it: written beside, then put in place in one step."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from flwr_robustcomp.checkpoints.records import describe, rebuild
from flwr_robustcomp.errors import ConfigurationError

__all__ = ["CHECKPOINT_FILE", "Snapshot", "read_snapshot", "write_snapshot"]

CHECKPOINT_FILE = "checkpoint.npz"
"""Name of the file in a checkpoint's folder."""

_FORMAT = 1
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Snapshot:
    """A run after one of its rounds.

    Attributes
    ----------
    round_ : int
        The last round that ended; 0 before the first.
    run : str
        Which run it is; a run goes on only from its own.
    strategy : str
        The types of the strategy and of those inside it.
    random : dict
        The state of the global generators that sampling draws from, as `global_random_state` gives it.
    records : dict of str to RecordDict
        ``model``, ``strategy``, ``app`` and the histories of a `Result`.
    nodes : dict of int to RecordDict
        `Context.state` of every node by its id, where the grid keeps them.
    """

    round_: int
    run: str
    strategy: str
    random: dict[str, Any]
    records: dict[str, RecordDict]
    nodes: dict[int, RecordDict] = field(default_factory=dict)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot so that a reader finds the old one or the new one, whenever the writer is killed.

    Parameters
    ----------
    path : Path
        The file; missing folders are made.
    snapshot : Snapshot
        What to write.

    Raises
    ------
    ConfigurationError
        If the folder cannot be written.

    Notes
    -----
    A zip archive, stored and not deflated: ``manifest.json``, and the bytes of Array i as ``i.npy``, which for dense Arrays
    is npy's own format, so that ``numpy.load(path)["0"]`` reads them. Every member has a CRC-32.
    """
    beside = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            _write(file, snapshot)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name must survive a power cut too
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigurationError(f"checkpoint must be a writable folder, got {str(path.parent)!r}: {error.strerror}") from error


def read_snapshot(path: Path) -> Snapshot | None:
    """Read a snapshot; None where there is no file.

    Raises
    ------
    ConfigurationError
        If the file is not a checkpoint, is damaged, or is of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except FileNotFoundError:
        return None
    except (OSError, zipfile.BadZipFile, LookupError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())
        raise ConfigurationError(f"checkpoint must be whole, got {str(path)!r}: {why}") from error


def _write(file: Any, snapshot: Snapshot) -> None:
    count = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(data: bytes) -> int:
            nonlocal count
            archive.writestr(f"{count}.npy", data)
            count += 1
            return count - 1

        manifest = {
            "format": _FORMAT,
            "round": snapshot.round_,
            "run": snapshot.run,
            "strategy": snapshot.strategy,
            "random": snapshot.random,
            "records": {name: describe(records, add) for name, records in snapshot.records.items()},
            "nodes": {str(node): describe(state, add) for node, state in snapshot.nodes.items()},
        }
        archive.writestr(_MANIFEST, json.dumps(manifest))


def _read(archive: zipfile.ZipFile) -> Snapshot:
    manifest = json.loads(archive.read(_MANIFEST))
    if manifest["format"] != _FORMAT:
        raise ValueError(f"format {manifest['format']!r}, where this version reads {_FORMAT}")

    def find(number: int) -> bytes:
        return archive.read(f"{number}.npy")

    return Snapshot(
        manifest["round"],
        manifest["run"],
        manifest["strategy"],
        manifest["random"],
        {name: rebuild(described, find) for name, described in manifest["records"].items()},
        {int(node): rebuild(described, find) for node, described in manifest["nodes"].items()},
    )
