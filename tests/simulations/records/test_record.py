from __future__ import annotations

import errno
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.records.record import Recorder, RecordError, SkippedLine, read_records


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "rounds.jsonl"
    records = [{"round": t, "error": 1 / (t + 1), "trimmed": [1, 2], "rejected": {"3": "wire"}} for t in range(4)]
    with Recorder(path) as recorder:
        for record in records[:2]:
            recorder(record)
    with Recorder(path) as recorder:  # appended
        for record in records[2:]:
            recorder(record)
    assert list(read_records(path)) == records
    assert list(read_records(tmp_path / "missing.jsonl")) == []


def test_every_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with Recorder(tmp_path / "r.jsonl") as recorder:
        recorder({"round": 0})
        assert list(read_records(tmp_path / "r.jsonl")) == [{"round": 0}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_becomes_null(tmp_path: Path, value: float) -> None:
    path = tmp_path / "r.jsonl"
    with Recorder(path) as recorder:
        recorder({"error": value, "nested": {"deep": {"loss": value}, "kept": 3}})
    text = path.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"error": None, "nested": {"deep": {"loss": None}, "kept": 3}}


def test_floats_come_back_exactly(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-310, 2**0.5, 1.7976931348623157e308]
    with Recorder(tmp_path / "r.jsonl") as recorder:
        recorder({"values": values})
    assert next(read_records(tmp_path / "r.jsonl"))["values"] == values


def test_a_half_written_last_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"round": 0}\n{"round": 1}\n{"round": 2, "er')
    assert list(read_records(path)) == [{"round": 0}, {"round": 1}]


def test_a_half_written_last_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"round": 0}\n{"round": 1, "er')
    with Recorder(path) as recorder:
        recorder({"round": 1})
        recorder({"round": 2})
    assert list(read_records(path)) == [{"round": 0}, {"round": 1}, {"round": 2}]


def test_lines_that_are_no_objects_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('3\n\n[1]\nnull\n{"round": 0}\n')
    assert list(read_records(path)) == [{"round": 0}]


def test_a_folder_that_cannot_be_written_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"out must be a writable folder, got '.*file'"):
        Recorder(tmp_path / "file" / "r.jsonl")
    (tmp_path / "r.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match="out must be a writable folder"):
        Recorder(tmp_path / "r.jsonl")


def test_what_json_cannot_hold_becomes_null_in_lists_too(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with Recorder(path) as recorder:
        recorder({"norms": {"honest": [1.0, math.inf, math.nan]}})
    assert list(read_records(path)) == [{"norms": {"honest": [1.0, None, None]}}]


BROKEN: dict[str, tuple[bytes, str]] = {
    "half a line": (b'{"round": 1, "er', "is not JSON"),
    "no UTF-8": (b'{"round": 1, "error": "\xff"}', "is not UTF-8 at byte 24"),
    "nested": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply"),
    "nested less": (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "is nested too deeply"),
    "digits": (b'{"round": ' + b"9" * 5_000 + b"}", "holds an integer of too many digits"),
    "fewer digits": (b'{"round": ' + b"9" * 400 + b"}", "holds an integer of too many digits"),
    "too large": (b'{"error": 1e999}', "holds a number that is too large"),
    "not a number": (b'{"error": NaN}', "is not JSON: NaN"),
    "surrogate": (b'{"skipped": "\\ud800"}', "holds a string that is no Unicode text"),
    "list": (b"[1]", "is no JSON object"),
    "null": (b"null", "is no JSON object"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("last", [True, False])
def test_a_line_that_is_no_record_is_named_and_the_others_are_read(tmp_path: Path, name: str, last: bool) -> None:
    line, why = BROKEN[name]
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"round": 0}\n\n' + line + (b"" if last else b'\n{"round": 2}\n'))
    skipped: list[SkippedLine] = []
    records = list(read_records(path, skip=skipped.append))
    assert records == [{"round": 0}, {"round": 2}][: 1 if last else 2]
    (one,) = skipped
    assert (one.file, one.line) == ("r.jsonl", 3)
    assert one.why.startswith(why)
    assert str(one) == f"r.jsonl line 3: {one.why}"
    assert len(str(one)) < 250


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flwr_robustcomp.simulations.records.record.LONGEST", 20)
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"round": 0}\n{"a": "' + b"x" * 500 + b'"}\n{"round": 2}\n{"b": "' + b"y" * 99)
    skipped: list[SkippedLine] = []
    assert list(read_records(path, skip=skipped.append)) == [{"round": 0}, {"round": 2}]
    assert [(one.line, one.why) for one in skipped] == [(2, "is longer than 20 bytes"), (4, "is longer than 20 bytes")]


@given(data=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    skipped: list[SkippedLine] = []
    records = list(read_records(path, skip=skipped.append))
    assert len(records) + len(skipped) == sum(1 for line in data.split(b"\n") if line.strip())
    assert all(str(one).isprintable() for one in skipped)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match=r"record must be a file, got '.*r\.jsonl'"):
        list(read_records(tmp_path / "r.jsonl"))


class FullDisk(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 0

    def write(self, data: Any) -> int:
        fits = bytes(data)[: FullDisk.room]
        if not fits:
            raise OSError(errno.ENOSPC, "No space left on device")
        FullDisk.room -= len(fits)
        return super().write(fits)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[FullDisk]:
    """Every file that is opened for appending lies on that disk."""

    def opened(path: Path, *, append: bool) -> FullDisk:
        assert append
        return FullDisk(path, "a")

    monkeypatch.setattr("flwr_robustcomp.simulations.records.record.open_own", opened)
    return FullDisk


@pytest.mark.parametrize("room", range(14, 26))
def test_a_full_disk_is_one_line_and_leaves_whole_lines(tmp_path: Path, disk: type[FullDisk], room: int) -> None:
    path = tmp_path / "r.jsonl"
    disk.room = room  # a line takes 13 bytes
    with Recorder(path) as recorder:
        recorder({"round": 0})
        with pytest.raises(RecordError, match=r"'.*r\.jsonl' cannot be written: No space left on device") as caught:
            recorder({"round": 1})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b'{"round": 0}\n'
    disk.room = 100
    with Recorder(path) as recorder:
        recorder({"round": 1})
    assert list(read_records(path)) == [{"round": 0}, {"round": 1}]


def test_a_full_disk_at_the_start_is_one_line(tmp_path: Path, disk: type[FullDisk]) -> None:
    (tmp_path / "r.jsonl").write_text('{"half')
    disk.room = 0
    with pytest.raises(ConfigurationError, match=r"out must be a writable folder, got '.*': No space left on device"):
        Recorder(tmp_path / "r.jsonl")
