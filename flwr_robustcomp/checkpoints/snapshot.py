"""What a checkpoint holds but for its history, and the file that holds it: written beside, then put in place in one step."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from flwr.app import RecordDict

from flwr_robustcomp.checkpoints import fields
from flwr_robustcomp.checkpoints.archive import Members
from flwr_robustcomp.checkpoints.format_1 import take_rounds
from flwr_robustcomp.checkpoints.history import Entry, Mark
from flwr_robustcomp.checkpoints.records import describe, rebuild
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.files import open_regular, replacing

__all__ = ["CHECKPOINT_FILE", "Snapshot", "read_snapshot", "write_snapshot"]

CHECKPOINT_FILE = "checkpoint.npz"
"""Name of the file in a checkpoint's folder."""

_FORMAT = 2
_READ = (1, 2)
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
        ``model``, ``strategy`` and ``app``.
    nodes : dict of int to RecordDict
        `Context.state` of every node by its id, where the grid keeps them.
    history : Mark
        How much of the history beside it is part of it.
    rounds : tuple of Entry
        Rounds that stand in the file itself and in no history; only format 1 has any, and they are not written.
    """

    round_: int
    run: str
    strategy: str
    random: dict[str, Any]
    records: dict[str, RecordDict]
    nodes: dict[int, RecordDict] = field(default_factory=dict)
    history: Mark = field(default_factory=Mark)
    rounds: tuple[Entry, ...] = ()


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
        If the folder cannot be written, or the disk is full. The old one is then whole, and nothing lies beside it.

    Notes
    -----
    A zip archive, stored and not deflated: ``manifest.json``, and the bytes of Array i as ``i.npy``, which for dense Arrays
    is npy's own format, so that ``numpy.load(path)["0"]`` reads them. Every member has a CRC-32.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            _write(file, snapshot)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new names, the history's among them, must survive a power cut too
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
        with open_regular(path) as file:
            return _read(Members(file))
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile and json raise a dozen types; whatever it is, the file is at fault
        raise fields.damaged(path, error) from error


def _write(file: BinaryIO, snapshot: Snapshot) -> None:
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
            "history": {"lines": snapshot.history.lines, "size": snapshot.history.size, "crc32": snapshot.history.crc32},
            "records": {name: describe(records, add) for name, records in snapshot.records.items()},
            "nodes": {str(node): describe(state, add) for node, state in snapshot.nodes.items()},
        }
        archive.writestr(_MANIFEST, json.dumps(manifest))


def _read(members: Members) -> Snapshot:
    manifest = fields.typed(json.loads(members.take(_MANIFEST)), dict, "the manifest")
    format_ = fields.whole(fields.field(manifest, "format", "the manifest"), "format")
    if format_ not in _READ:
        raise ValueError(f"format {format_}, where this version reads {_READ[0]} to {_READ[-1]}")

    def get(name: str) -> Any:
        return fields.field(manifest, name, f"the manifest of format {format_}")

    def find(number: int) -> bytes:
        return members.take(f"{number}.npy")

    def rebuilt(name: str) -> dict[str, RecordDict]:
        return {key: rebuild(one, find) for key, one in fields.typed(get(name), dict, name).items()}

    snapshot = Snapshot(
        fields.whole(get("round"), "round"),
        fields.typed(get("run"), str, "run"),
        fields.typed(get("strategy"), str, "strategy"),
        fields.typed(get("random"), dict, "random"),
        records := rebuilt("records"),
        {fields.key_number(node, "the id of a node"): state for node, state in rebuilt("nodes").items()},
        Mark() if format_ == 1 else _mark(fields.typed(get("history"), dict, "history")),
        take_rounds(records) if format_ == 1 else (),
    )
    members.finish()
    return snapshot


def _mark(table: dict[str, Any]) -> Mark:
    lines, size, crc32 = (
        fields.whole(fields.field(table, name, "history"), f"history: {name}") for name in ("lines", "size", "crc32")
    )
    return Mark(lines, size, crc32)
