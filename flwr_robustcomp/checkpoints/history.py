"""What each round added to a run, in a file that only grows: a round's checkpoint costs the same however long the run is."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import MetricRecord, RecordDict

from flwr_robustcomp.checkpoints.fields import damaged, field, typed, whole
from flwr_robustcomp.checkpoints.records import describe, rebuild
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.files import open_own, open_regular

__all__ = ["HISTORIES", "HISTORY_FILE", "Entry", "Mark", "append_history", "read_history"]

HISTORY_FILE = "checkpoint.jsonl"
"""Name of the file in a checkpoint's folder."""

HISTORIES = ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")
"""The histories of Flower's `Result`."""


@dataclass(frozen=True)
class Mark:
    """How much of a history belongs to a checkpoint.

    Attributes
    ----------
    lines, size : int
        Counted from the start; size in bytes. Lines beyond are of rounds that a killed run did not complete.
    crc32 : int
        Of all entries up to here, so that the history of another run is told apart.
    """

    lines: int = 0
    size: int = 0
    crc32: int = 0


@dataclass(frozen=True)
class Entry:
    """What one round added.

    Attributes
    ----------
    round_ : int
        Which round.
    metrics : dict of str to MetricRecord
        What it added to the histories of `Result`, by their names.
    notes : tuple of JSON values
        What the server noted in it.
    """

    round_: int
    metrics: dict[str, MetricRecord]
    notes: tuple[Any, ...] = ()


def append_history(path: Path, mark: Mark, entries: Sequence[Entry]) -> Mark:
    """Write entries behind the mark, in the place of whatever a killed run left there, and sync them.

    Returns
    -------
    Mark
        Behind the last of them. The checkpoint that names it is to be written after; until then the old one is whole.

    Raises
    ------
    ConfigurationError
        If the file has become shorter than the mark.
    OSError
        If it cannot be written; it then ends at the mark again, as far as the disk lets it.
    """
    if not entries:
        return mark
    lines, crc32 = [], mark.crc32
    for entry in entries:
        text = _encode(entry)
        crc32 = zlib.crc32(text, crc32)
        lines.append(b'{"crc32": "%08x", "entry": %s}\n' % (crc32, text))
    data = b"".join(lines)
    with open_own(path) as file:
        _check_size(path, os.fstat(file.fileno()).st_size, mark)
        try:
            file.truncate(mark.size)
            file.seek(mark.size)
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(mark.size)
            raise
    return Mark(mark.lines + len(lines), mark.size + len(data), crc32)


def read_history(path: Path, mark: Mark) -> list[Entry]:
    """Return the entries up to a mark; what lies beyond is not looked at, and nothing is changed.

    Raises
    ------
    ConfigurationError
        If the file is missing, too short, or another than the mark was made in.
    """
    if mark == Mark():
        return []
    try:
        with open_regular(path) as file:
            _check_size(path, os.fstat(file.fileno()).st_size, mark)
            data = file.read(mark.size)
        return _decode_all(data, mark)
    except ConfigurationError:
        raise
    except Exception as error:  # whatever a parser raises, the file is at fault
        raise damaged(path, error) from error


def _check_size(path: Path, size: int, mark: Mark) -> None:
    if size < mark.size:
        raise damaged(path, ValueError(f"{size} bytes, of which the checkpoint counts {mark.size}"))


def _encode(entry: Entry) -> bytes:
    metrics = describe(RecordDict(dict(entry.metrics)), _no_arrays)
    return json.dumps({"round": entry.round_, "metrics": metrics, "notes": list(entry.notes)}).encode("ascii")


def _decode_all(data: bytes, mark: Mark) -> list[Entry]:
    entries: list[Entry] = []
    crc32, lines = 0, data.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        head, _, rest = line.partition(b', "entry": ')
        text = rest[: -len(b"}\n")]
        crc32 = zlib.crc32(text, crc32)
        if head != b'{"crc32": "%08x"' % crc32 or rest[len(text) :] != b"}\n":
            raise ValueError(f"line {number} is damaged, or is of another run")
        entries.append(_entry(json.loads(text), f"line {number}"))
        if len(entries) > 1 and entries[-2].round_ >= entries[-1].round_:
            raise ValueError(f"line {number} is of round {entries[-1].round_}, the line before of {entries[-2].round_}")
    if (len(entries), crc32) != (mark.lines, mark.crc32):
        raise ValueError(f"its first {len(entries)} lines are of another run than the checkpoint's {mark.lines}")
    return entries


def _entry(value: Any, what: str) -> Entry:
    table = typed(value, dict, what)
    round_ = whole(field(table, "round", what), f"{what}: round")
    metrics: dict[str, MetricRecord] = {}
    for name, record in rebuild(field(table, "metrics", what), _no_bytes).items():
        if name not in HISTORIES or not isinstance(record, MetricRecord):
            raise ValueError(f"{what} must hold metrics of {', '.join(HISTORIES)}, got {name!r}")
        metrics[name] = record
    return Entry(round_, metrics, tuple(typed(field(table, "notes", what), list, f"{what}: notes")))


def _no_arrays(data: bytes) -> int:
    raise TypeError("metrics hold no arrays")


def _no_bytes(number: int) -> bytes:
    raise ValueError("metrics hold no arrays")
