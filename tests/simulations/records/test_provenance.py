from __future__ import annotations

import importlib.metadata
from pathlib import Path

from flwr_robustcomp.simulations.records.provenance import RUNS_FILE, note_start
from flwr_robustcomp.simulations.records.record import read_records
from flwr_robustcomp.simulations.records.record_lines import StartLine
from flwr_robustcomp.simulations.scenario.suite import Suite
from tests.simulations.kit import SMALL


def test_a_path_that_is_no_unicode_text_is_a_line_that_can_be_read(tmp_path: Path) -> None:
    note_start(tmp_path, ["run", b"caf\xe9.toml".decode("utf-8", "surrogateescape")])
    (start,) = read_records(tmp_path / RUNS_FILE, StartLine.check)
    assert start["command"] == r"robustcomp run 'caf\udce9.toml'"


def test_every_start_is_one_line_with_what_repeats_it(tmp_path: Path) -> None:
    base = {key: SMALL[key] for key in ("problem", "nodes", "rounds")}
    suite = Suite.model_validate({"title": "T", "base": base, "strategies": ["norm-threshold"]})
    note_start(tmp_path, ["compare", "my suite.toml", "--jobs", "2"], {"mine": suite})
    note_start(tmp_path, ["run", "scenario.toml"])
    first, second = read_records(tmp_path / RUNS_FILE)
    assert first["command"] == "robustcomp compare 'my suite.toml' --jobs 2"
    assert second["command"] == "robustcomp run scenario.toml"
    assert first["versions"]["torch"] == importlib.metadata.version("torch")
    assert Suite.model_validate(first["suites"]["mine"]) == suite
    assert second["suites"] == {}
    assert first["machine"]["cores"] >= 1
