"""The machine-readable record: one JSON object a line, written as each round ends."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from flwr_robustcomp.errors import ConfigurationError, printable
from flwr_robustcomp.files import open_own

__all__ = ["RecordError", "Recorder", "RoundRecord", "SkippedLine", "decoded", "read_records", "writing"]

RoundRecord = dict[str, Any]
"""``round``, the problem's metrics and, from round 1, ``kept``, ``trimmed``, ``rejected``, ``threshold``, ``bytes`` of the
replies, ``bytes_sent`` to the nodes, ``bytes_dense``, what those would be with the dense model, ``forms``, how many nodes were
sent which form of it, ``resent``, who was sent it again, ``skipped``, ``delta``, where norms were computed, ``norms``:
smallest, median and largest of the ``honest`` and of the ``byzantine``, ``spread`` where filters looked at inner products, and
``minority_warning`` and ``alarm`` in the rounds that raised one. Older records have nothing of what was sent to the nodes.

All of it follows from the scenario; what depends on the machine stands in files of its own (`cost`, `provenance`)."""

LONGEST = 2**24
"""Bytes of a line: a round of 100,000 nodes that are all rejected takes a fifth of it."""

_DEEPEST = 32
"""Lists and tables inside each other: a suite has five levels, and every reader after this one can recurse."""

_MOST_DIGITS = 300
"""Of an integer: a float holds it, and Python writes it out."""


class RecordError(RuntimeError):
    """The record cannot be written any further, a full disk for example; the lines before stay whole."""


@dataclass(frozen=True)
class SkippedLine:
    """What a reader passed over.

    Attributes
    ----------
    file : str
        Its name.
    line : int or None
        From 1; None for a file that is read as a whole.
    why : str
        What is wrong, fit to be printed.
    """

    file: str
    line: int | None
    why: str

    def __str__(self) -> str:
        """Return place and reason."""
        return f"{self.file}{'' if self.line is None else f' line {self.line}'}: {self.why}"


class Recorder:
    """Append records to a file; each line is in the file when the call returns, so that a run that dies keeps what it had.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` file; missing folders are made.

    Raises
    ------
    ConfigurationError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_own(path, append=True)  # without a buffer: a failed write has nothing left to write at the end
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            if not _ends_whole(path):
                self._file.write(b"\n")  # a killed run left half a line, which must not swallow the next one
        except OSError as error:
            self._file.close()
            raise _unwritable(path, error) from error

    def __call__(self, record: RoundRecord) -> None:
        """Write one record.

        Raises
        ------
        RecordError
            If the line cannot be written; the part of it that was is taken back.
        """
        line = (json.dumps(_plain(record)) + "\n").encode()
        written = 0
        with writing(self._path):
            try:
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                self._take_back(written)
                raise

    def _take_back(self, written: int) -> None:
        """Cut off the half of a line at the file's end; where even that fails, the next `Recorder` ends it."""
        try:
            self._file.truncate(os.fstat(self._file.fileno()).st_size - written)
        except OSError:
            return

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        with writing(self._path):
            self._file.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write a file of the record into a `RecordError` of one line."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be written: {error.strerror or error}; what it held before is whole"
        ) from error


def read_records(
    path: Path,
    check: Callable[[RoundRecord], object] = lambda record: None,
    skip: Callable[[SkippedLine], None] = lambda line: None,
) -> Iterator[RoundRecord]:
    """Yield the records of a file, one line at a time; what is no record is passed over.

    Parameters
    ----------
    path : Path
        A ``.jsonl`` file; one that is missing has no records.
    check : callable
        Raises ValueError, with the reason, for an object that is no record of this file (see `record_lines`).
    skip : callable
        Called with every line that is passed over, empty ones apart.

    Raises
    ------
    ConfigurationError
        If there is something else in the file's place, or it cannot be read.
    """
    if not path.exists():
        return
    if not path.is_file():  # a device or a pipe need never end
        raise ConfigurationError(f"record must be a file, got {str(path)!r}")
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(file), 1):
                try:
                    if not line.strip():
                        continue
                    record = decoded(line)
                    check(record)
                except ValueError as error:
                    skip(SkippedLine(printable(path.name), number, printable(str(error))))
                    continue
                yield record
    except OSError as error:
        raise ConfigurationError(f"record must be readable, got {str(path)!r}: {error.strerror}") from error


def decoded(data: bytes) -> dict[str, Any]:
    """Return the JSON object that some bytes hold.

    Raises
    ------
    ValueError
        With the reason: no UTF-8, no JSON, no object, nesting or a number beyond what anyone records.
    """
    if len(data) > LONGEST:
        raise ValueError(f"is longer than {LONGEST:,} bytes")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_not_json)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start + 1}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        # Python itself refuses integers of more than 4300 digits, in a line about its own settings.
        raise ValueError(str(error) if "JSON" in str(error) else "holds an integer of too many digits") from error
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    _check_value(value, 0)
    return value


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; of one that is too long only the beginning, which is longer than `decoded` takes."""
    while line := file.readline(LONGEST + 1):
        yield line
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST + 1)


def _check_value(value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_value(key, depth + 1)
            _check_value(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is too large")
    elif isinstance(value, int) and value.bit_length() > _MOST_DIGITS * 3.32:
        raise ValueError("holds an integer of too many digits")
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:  # half of a pair of surrogates, which no file can hold as text
            raise ValueError("holds a string that is no Unicode text") from error


def _not_json(constant: str) -> None:
    raise ValueError(f"is not JSON: {constant}")


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"out must be a writable folder, got {str(path.parent)!r}: {error.strerror}")


def _ends_whole(path: Path) -> bool:
    """Whether a file is empty or ends with a line's end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _plain(value: Any) -> Any:
    """Return a value that strict JSON can hold: NaN and infinity become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
