"""The machine-readable record: one JSON object a line, written as each round ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from flwr_robustcomp.errors import ConfigurationError

__all__ = ["Recorder", "RoundRecord", "read_records"]

RoundRecord = dict[str, Any]
"""``round``, the problem's metrics and, from round 1, ``kept``, ``trimmed``, ``rejected``, ``threshold``, ``bytes``,
``skipped``, ``delta`` and, where norms were computed, ``norms``: smallest, median and largest of the ``honest`` and of the
``byzantine``.

All of it follows from the scenario; what depends on the machine stands in files of its own (`cost`, `provenance`)."""


class Recorder:
    """Append records to a file; each line is flushed, so that a run that dies keeps what it had measured.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` file; missing folders are made.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
            if path.read_bytes()[-1:] not in (b"", b"\n"):
                self._file.write("\n")  # a killed run left half a line, which must not swallow the next one
        except OSError as error:
            raise ConfigurationError(f"out must be a writable folder, got {str(path.parent)!r}: {error.strerror}") from error

    def __call__(self, record: RoundRecord) -> None:
        """Write one record."""
        self._file.write(json.dumps(_plain(record)) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self._file.close()


def read_records(path: Path) -> Iterator[RoundRecord]:
    """Yield the records of a file; a last line that a killed run left half-written is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record


def _plain(value: Any) -> Any:
    """Return a value that strict JSON can hold: NaN and infinity become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value
