"""Scenarios that stop and go on: by an exception, by SIGKILL at the worst moments, from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp import cli
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE, HISTORY_FILE, read_snapshot
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid, Scenario, run_scenario, run_server_app
from flwr_robustcomp.simulations.app import CLIENT_APP, server_app
from flwr_robustcomp.simulations.records.curves import read_curves
from flwr_robustcomp.simulations.records.record import RoundRecord, read_records
from tests.checkpoints.kit import Stopped
from tests.simulations.kit import ROOT, small

SCENARIO = small(error_feedback=True, compressor={"name": "top-k", "k": 2}, rounds=6)


def _stop(scenario: Scenario, folder: Path, at: int, **options: Any) -> None:
    def observe(record: RoundRecord) -> None:
        if record["round"] == at:
            raise Stopped

    with pytest.raises(Stopped):
        run_scenario(scenario, checkpoint=folder, observe=observe, **options)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_scenario_goes_on_to_the_same_records(at: int, tmp_path: Path) -> None:
    _stop(SCENARIO, tmp_path, at)
    seen: list[RoundRecord] = []
    records = run_scenario(SCENARIO, checkpoint=tmp_path, observe=seen.append)
    assert records == run_scenario(SCENARIO)
    assert seen == records[at:]
    assert run_scenario(SCENARIO, checkpoint=tmp_path, observe=seen.append) == records
    assert seen == records[at:]


def test_values_that_json_has_no_name_for_come_back(tmp_path: Path) -> None:
    scenario = small(rounds=6, byzantine=10, strategy={"name": "fed-avg", "step_size": 1e38}, attack="scaling")
    _stop(scenario, tmp_path, 5)
    records = run_scenario(scenario, checkpoint=tmp_path)
    assert repr(records) == repr(run_scenario(scenario))


def test_another_scenario_is_refused_in_one_line(tmp_path: Path) -> None:
    run_scenario(SCENARIO, checkpoint=tmp_path)
    other = SCENARIO.varied(seed=1)
    with pytest.raises(ConfigurationError, match=r"checkpoint must be of this run .* got .* of") as caught:
        run_scenario(other, checkpoint=tmp_path)
    assert other.key in str(caught.value) and SCENARIO.key in str(caught.value) and "\n" not in str(caught.value)


_KILLED = """
import os, signal, sys, zipfile
from flwr_robustcomp.checkpoints import checkpointed
from flwr_robustcomp.simulations import Scenario, run_scenario
step, scenario, folder = sys.argv[1], Scenario.from_toml(sys.argv[2]), sys.argv[3]
def kill(record):
    if record["round"] == 3 and step == "round":
        os.kill(os.getpid(), signal.SIGKILL)
    if record["round"] == 3 and step == "history":  # after it, before the snapshot that counts it
        append = checkpointed.append_history
        def halved(path, mark, entries):
            if os.path.exists(path):
                append(path, mark, entries)
                os.truncate(path, mark.size + (os.path.getsize(path) - mark.size) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        checkpointed.append_history = halved
    if record["round"] == 3:
        original = zipfile.ZipFile.writestr
        def cut(self, *rest):
            original(self, *rest)
            self.fp.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        zipfile.ZipFile.writestr = cut
run_scenario(scenario, checkpoint=folder, observe=kill)
"""

_TOML = """
nodes = 10
byzantine = 2
rounds = 6
error_feedback = true
compressor = { name = "top-k", k = 2 }
problem = { name = "least-squares", samples = 80, dimension = 12 }
strategy = { name = "norm-threshold", trim = 3, step_size = 0.4 }
"""


@pytest.mark.processes
@pytest.mark.parametrize("step", ["round", "history", "write"])
def test_a_killed_server_goes_on(step: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "mine.toml", tmp_path / "kept"
    path.write_text(_TOML, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, step, str(path), str(folder)], cwd=ROOT, capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    # Killed while round 3's checkpoint was being written: that of round 2 is whole, the half one lies beside it.
    assert (folder / "checkpoint.part").exists() == (step == "write")
    found = read_snapshot(folder / CHECKPOINT_FILE)
    assert found is not None and found.round_ == 2
    scenario = Scenario.from_toml(path)
    assert run_scenario(scenario, checkpoint=folder) == run_scenario(scenario)
    assert sorted(os.listdir(folder)) == [HISTORY_FILE, CHECKPOINT_FILE]


def test_a_rarer_checkpoint_repeats_the_rounds_since(tmp_path: Path) -> None:
    _stop(SCENARIO, tmp_path, 5, checkpoint_every=2)
    found = read_snapshot(tmp_path / CHECKPOINT_FILE)
    assert found is not None and found.round_ == 4
    seen: list[RoundRecord] = []
    records = run_scenario(SCENARIO, checkpoint=tmp_path, checkpoint_every=4, observe=seen.append)
    assert records == run_scenario(SCENARIO) and seen == records[5:]
    found = read_snapshot(tmp_path / CHECKPOINT_FILE)
    assert found is not None and found.round_ == 6
    for every, folder, allowed in (
        (0, tmp_path, "an integer from 1"),
        (True, tmp_path, "an integer from 1"),
        (2, None, "given with checkpoint only"),
    ):
        with pytest.raises(ConfigurationError, match=f"^checkpoint_every must be {allowed}, got {every}"):
            run_scenario(SCENARIO, checkpoint=folder, checkpoint_every=every)


def test_the_server_app_keeps_its_run_where_the_run_config_says(tmp_path: Path) -> None:
    path, folder = tmp_path / "rounds.jsonl", tmp_path / "kept"
    config = SCENARIO.to_run_config() | {"record": str(path), "checkpoint": str(folder), "checkpoint-every": 5}
    _stop(SCENARIO, folder, 4)
    with InProcessGrid(CLIENT_APP, SCENARIO.nodes, run_config=config) as grid:
        run_server_app(server_app, grid)
    assert list(read_records(path)) == run_scenario(SCENARIO)[4:]


def test_the_command_line_goes_on_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "mine.toml", tmp_path / "kept"
    path.write_text(_TOML, encoding="utf-8")
    scenario = Scenario.from_toml(path)
    _stop(scenario, folder, 4)
    arguments = ["robustcomp", "run", str(path), "--checkpoint", str(folder), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    whole = run_scenario(scenario)
    assert not ended.value.code
    assert f"mine: error {whole[-1]['error']:.2e} after 6 rounds" in capsys.readouterr().out
    assert read_curves(tmp_path / "out") == {scenario.key: whole}  # the rounds before the checkpoint as well
    for more in (["--checkpoint-every", "0"], ["--checkpoint-every", "2.5"]):
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        assert "checkpoint-every" in capsys.readouterr().err
    path.write_text(_TOML.replace("rounds = 6", "rounds = 7"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [*arguments[:-1], str(tmp_path / "other")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == "" and captured.err.startswith("robustcomp: error: checkpoint must be of this run")
    assert captured.err.count("\n") == 1
