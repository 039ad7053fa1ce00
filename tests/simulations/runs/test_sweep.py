from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import run_scenario
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE
from flwr_robustcomp.simulations.records.cost import COSTS_FILE
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, read_curves
from flwr_robustcomp.simulations.records.record import Recorder, RecordError, RoundRecord, read_records
from flwr_robustcomp.simulations.runs import sweep
from flwr_robustcomp.simulations.runs.sweep import SweepError, run_cells
from flwr_robustcomp.simulations.scenario import Scenario
from tests.simulations.kit import nothing_left_running, small

CELLS = [small(seed=seed) for seed in range(3)]


class Runs:
    """Counts the scenarios that are run; can break one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seeds: list[int] = []
        self.broken: int | None = None
        monkeypatch.setattr(sweep, "run_scenario", self)

    def __call__(self, scenario: Scenario, observe: Callable[[RoundRecord], None]) -> list[RoundRecord]:
        self.seeds.append(scenario.seed)
        if scenario.seed == self.broken:
            raise RuntimeError("no luck")
        return run_scenario(scenario, observe=observe)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


def test_curves_are_those_of_single_runs(tmp_path: Path) -> None:
    done: list[int] = []
    curves = run_cells(CELLS, tmp_path / "new", advance=done.append)
    assert curves == {cell.key: run_scenario(cell) for cell in CELLS}
    assert sum(done) == 9
    index = {record["cell"]: record["scenario"] for record in read_records(tmp_path / "new" / CELLS_FILE)}
    assert list(index) == [cell.key for cell in CELLS]  # in the order asked for
    assert {key: Scenario.parse(scenario) for key, scenario in index.items()} == {cell.key: cell for cell in CELLS}


def test_complete_cells_are_not_run_again(tmp_path: Path, runs: Runs) -> None:
    first = run_cells(CELLS[:2], tmp_path)
    before = (tmp_path / ROUNDS_FILE).read_bytes()
    done: list[int] = []
    assert run_cells(CELLS[:2], tmp_path, advance=done.append) == first
    assert runs.seeds == [0, 1]
    assert (tmp_path / ROUNDS_FILE).read_bytes() == before
    assert sum(done) == 6  # a progress bar gets to its end all the same
    both = run_cells(CELLS, tmp_path)
    assert runs.seeds == [0, 1, 2]
    assert {key: both[key] for key in first} == first
    assert run_cells(CELLS[2:], tmp_path).keys() == {CELLS[2].key}  # of exactly these scenarios


def test_a_cell_that_cannot_be_run_is_refused_before_the_first(tmp_path: Path, runs: Runs) -> None:
    with pytest.raises(ConfigurationError, match=r"compressor must be one of .* got 'zip'"):
        run_cells([*CELLS, small(compressor="zip")], tmp_path)
    assert runs.seeds == []
    assert list(tmp_path.iterdir()) == []


def test_equal_cells_run_once(tmp_path: Path, runs: Runs) -> None:
    done: list[int] = []
    curves = run_cells([CELLS[0], small(seed=0), CELLS[1], CELLS[0]], tmp_path, advance=done.append)
    assert runs.seeds == [0, 1]
    assert len(curves) == 2
    assert sum(done) == 6


@pytest.mark.parametrize("torn", ["", '{"cell": "', '{"cell": "x", "round": 0, "error": 3'])
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_an_incomplete_cell_is_run_again(tmp_path: Path, runs: Runs, kept: int, torn: str) -> None:
    expected = run_cells(CELLS[:2], tmp_path)
    lines = (tmp_path / ROUNDS_FILE).read_text().splitlines(keepends=True)
    (tmp_path / ROUNDS_FILE).write_text("".join(lines[: 4 + kept]) + torn)
    assert run_cells(CELLS[:2], tmp_path) == expected
    assert runs.seeds == [0, 1, 1]
    assert read_curves(tmp_path) == expected
    assert run_cells(CELLS[:2], tmp_path) == expected
    assert runs.seeds == [0, 1, 1]
    assert len(list(read_records(tmp_path / CELLS_FILE))) >= 2


def test_a_changed_scenario_is_another_cell(tmp_path: Path, runs: Runs) -> None:
    run_cells([small(rounds=2)], tmp_path)
    curves = run_cells([small(rounds=3)], tmp_path)
    assert [record["round"] for record in curves[small(rounds=3).key]] == [0, 1, 2, 3]
    assert len(runs.seeds) == 2


def test_of_a_round_recorded_twice_the_later_counts(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"cell": "a", "round": 1, "error": 1.0},
        {"cell": "a", "round": 0, "error": 2.0},
        {"round": 0, "error": 9.0},
        {"cell": "a", "error": 9.0},
        {"cell": 3, "round": 0},
        {"cell": "a", "round": 1, "error": 0.5},
    ]
    (tmp_path / ROUNDS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_curves(tmp_path) == {"a": [{"round": 0, "error": 2.0}, {"round": 1, "error": 0.5}]}
    assert read_curves(tmp_path / "missing") == {}


@pytest.mark.parametrize("jobs", [0, -2])
def test_at_least_one_job(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(ConfigurationError, match=f"jobs must be at least 1, got {jobs}"):
        run_cells(CELLS, tmp_path, jobs=jobs)


def test_a_failing_cell_here_raises_after_the_others_were_recorded(tmp_path: Path, runs: Runs) -> None:
    runs.broken = 1
    with pytest.raises(SweepError, match=f"cell {CELLS[1].key}: .*no luck"):
        run_cells(CELLS, tmp_path)
    assert runs.seeds == [0, 1, 2]
    assert read_curves(tmp_path).keys() == {CELLS[0].key, CELLS[2].key}


def test_a_record_that_cannot_be_written_ends_all_cells_at_once(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the cell, and the others would be run for nothing."""
    real = Recorder.__call__

    def full(self: Recorder, record: RoundRecord) -> None:
        if record.get("round") == 2:
            raise RecordError("'rounds.jsonl' cannot be written: No space left on device")
        real(self, record)

    monkeypatch.setattr(Recorder, "__call__", full)
    with pytest.raises(RecordError, match="No space left on device"):
        run_cells(CELLS, tmp_path)
    assert runs.seeds == [0]
    assert [len(curve) for curve in read_curves(tmp_path).values()] == [2]


def test_a_cell_whose_record_does_not_read_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def words(scenario: Scenario, observe: Callable[[RoundRecord], None]) -> None:
        for round_ in range(scenario.rounds + 1):
            observe({"round": round_, "error": "small"})

    monkeypatch.setattr(sweep, "run_scenario", words)
    with pytest.raises(SweepError, match=f"cell {CELLS[0].key}: its record does not read back whole: .* line 4: error: "):
        run_cells(CELLS[:1], tmp_path)


class _Breaks(Scenario):
    """A scenario that works here, and that a worker refuses."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return {**super().model_dump(**options), "nodes": 0}

    @property
    def key(self) -> str:
        return "broken"


@pytest.mark.processes
@pytest.mark.usefixtures("ray_dir")
def test_ray_gives_the_same_curves_and_a_failing_cell_raises_last(tmp_path: Path) -> None:
    broken = _Breaks.parse(CELLS[0].model_dump())
    done: list[int] = []
    with nothing_left_running(), pytest.raises(SweepError, match=r"cell broken: .*nodes") as caught:
        run_cells([broken, *CELLS], tmp_path / "two", jobs=2, advance=done.append)
    assert "\n" not in str(caught.value)
    assert sum(done) == 9
    charged = [entry["cell"] for entry in read_records(tmp_path / "two" / COSTS_FILE)]
    assert sorted(charged) == sorted(cell.key for cell in CELLS)
    assert read_curves(tmp_path / "two") == run_cells(CELLS, tmp_path / "one", jobs=1)
