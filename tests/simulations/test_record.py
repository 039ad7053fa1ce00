from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.record import Recorder, read_records


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
