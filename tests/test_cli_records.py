"""What the command line says of the folder that it writes to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp import cli
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, read_curves
from flwr_robustcomp.simulations.records.record import Recorder, RecordError
from flwr_robustcomp.simulations.scenario import Scenario
from tests.simulations.bad_inputs import COMMON

SCENARIO = COMMON + 'rounds = 3\nstrategy = { name = "norm-threshold", trim = "byzantine+1", step_size = 0.4 }\n'
SUITE = """
title = "Tiny"
byzantine = [0, 2]
[base]
nodes = 10
rounds = 3
problem = { name = "least-squares", samples = 80, dimension = 12 }
[[strategies]]
name = "norm-threshold"
label = "ours [/red]"
trim = "byzantine+1"
"""

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Main:
    """Return a function that calls the command line's entry point here, and gives status, output and errors."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["robustcomp", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_run_refuses_a_folder_of_another_scenario_and_writes_nothing(main: Main, tmp_path: Path) -> None:
    path = _write(tmp_path / "mine.toml", SCENARIO)
    assert main("run", path)[0] == 0
    assert main("run", path)[0] == 0  # the same again
    out = tmp_path / "out" / "mine"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    _write(path, SCENARIO.replace("0.4", "0.5"))
    status, said, wrong = main("run", path)
    assert (status, said, wrong.count("\n")) == (2, "", 1)
    assert wrong.startswith("robustcomp: error: out must hold no other scenario than the one to run, got 'out/mine' with ")
    assert "norm-threshold trim=byzantine+1 step_size=0.4" in wrong
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert main("run", path, "--out", tmp_path / "other")[0] == 0


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_full_disk_ends_a_command_with_one_line_and_status_1(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    real = Recorder.__call__

    def full(self: Recorder, record: dict[str, Any]) -> None:
        if record.get("round") == 2:
            raise RecordError("'rounds.jsonl' cannot be written: No space left on device; what it held before is whole")
        real(self, record)

    monkeypatch.setattr(Recorder, "__call__", full)
    path = _write(tmp_path / "mine.toml", SCENARIO if command == "run" else SUITE)
    jobs = [] if command == "run" else ["--jobs", "1"]
    status, _, wrong = main(command, path, "--out", tmp_path / "out", *jobs)
    lines = [line for line in wrong.splitlines() if line.startswith("robustcomp: ")]
    assert status == 1
    assert lines == [
        "robustcomp: error: 'rounds.jsonl' cannot be written: No space left on device; what it held before is whole"
    ]
    assert "Traceback" not in wrong
    assert [len(curve) for curve in read_curves(tmp_path / "out").values()] == [2]
    monkeypatch.setattr(Recorder, "__call__", real)
    assert main(command, path, "--out", tmp_path / "out", *jobs)[0] == 0
    if command == "run":
        assert len(read_curves(tmp_path / "out")[Scenario.from_toml(path).key]) == 4


@pytest.mark.parametrize("command", ["run", "compare"])
def test_an_out_that_is_no_folder_is_one_line(main: Main, tmp_path: Path, command: str) -> None:
    path = _write(tmp_path / "mine.toml", SCENARIO if command == "run" else SUITE)
    status, said, wrong = main(command, path, "--out", path, *([] if command == "run" else ["--jobs", "1"]))
    assert (status, said, wrong.count("\n")) == (2, "", 1)
    assert "out must be a writable folder" in wrong


def test_compare_prints_names_as_they_are(main: Main, tmp_path: Path) -> None:
    """Rich reads square brackets as markup."""
    status, said, _ = main("compare", _write(tmp_path / "tiny.toml", SUITE), "--out", tmp_path / "out", "--jobs", "1")
    assert status == 0
    assert said.count("ours [/red]") >= 3
    assert (tmp_path / "out" / ROUNDS_FILE).exists()
