from __future__ import annotations

import json
from pathlib import Path

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import Scenario
from flwr_robustcomp.simulations.problems import Problem
from flwr_robustcomp.simulations.records import cell_index
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE, cell_lines, check_folder, read_cells
from flwr_robustcomp.simulations.runs.sweep import run_cells
from flwr_robustcomp.simulations.scenario.setup import make_problem
from tests.simulations.kit import digits, small


def test_a_line_says_what_a_report_would_have_to_build_a_problem_for() -> None:
    squares, images = cell_lines([small(), digits(compressor="sign", strategy="fed-avg")])
    assert squares["problem"] == {"metric": "error", "better": "lower", "dimension": 12}
    assert squares["guaranteed_delta"] == pytest.approx(1 / 12)
    assert images["problem"] == {"metric": "accuracy", "better": "higher", "dimension": 64 * 4 + 4 + 4 * 10 + 10}
    assert images["guaranteed_delta"] is None


def test_seeds_share_the_facts_of_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def watched(scenario: Scenario) -> Problem:
        made.append(scenario.seed)
        return make_problem(scenario)

    monkeypatch.setattr(cell_index, "make_problem", watched)
    assert len(list(cell_lines([small(seed=seed) for seed in range(4)]))) == 4
    assert made == [0]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run_cells([small()], tmp_path)
    (line,) = read_cells(tmp_path)
    assert line.cell == small().key
    assert line.problem is not None
    assert line.problem.dimension == 12


def test_a_folder_of_another_scenario_is_refused_by_what_it_holds(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", small())
    run_cells([small()], tmp_path)
    check_folder(tmp_path, small())
    with pytest.raises(ConfigurationError) as caught:
        check_folder(tmp_path, small(seed=1))
    line = str(caught.value)
    assert line.startswith(f"out must hold no other scenario than the one to run, got {str(tmp_path)!r} with least-squares")
    assert "2 x gaussian-noise, l1-sign, norm-threshold trim=3 step_size=0.4, 3 rounds, seed 0" in line
    assert "--out" in line
    run_cells([small(byzantine=0)], tmp_path)
    with pytest.raises(ConfigurationError, match="and 1 more; give another --out"):
        check_folder(tmp_path, small(seed=1))


def test_a_scenario_that_cannot_be_read_is_another_one(tmp_path: Path) -> None:
    (tmp_path / CELLS_FILE).write_text(json.dumps({"cell": "x\x1b", "scenario": {"weather": 1}}) + "\n")
    with pytest.raises(ConfigurationError, match="a scenario that this version cannot read"):
        check_folder(tmp_path, small())
