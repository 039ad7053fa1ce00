from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from flwr_robustcomp.simulations.records.cost import COSTS_FILE, Meter
from flwr_robustcomp.simulations.records.record import read_records
from flwr_robustcomp.simulations.runs.sweep import run_cells
from tests.simulations.kit import small


def test_the_median_is_of_rounds_without_the_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 6.0, 8.0, 11.0, 12.0])  # start, round 0 (with the setup), rounds 1 to 3, end
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = Meter()
    for _ in range(4):
        meter.tick()
    found = meter.cost()
    assert (found["seconds"], found["seconds_per_round"]) == (12.0, 2.0)


def test_a_run_that_ended_before_its_first_round_has_no_seconds_per_round() -> None:
    assert Meter().cost()["seconds_per_round"] is None


def test_the_peak_is_in_bytes_and_of_this_run() -> None:
    large = Meter()
    ballast = np.ones(30_000_000)  # 240 MB
    with_ballast = large.cost()["peak_memory"]
    del ballast
    assert with_ballast > 240e6
    if Path("/proc/self/clear_refs").exists():
        assert Meter().cost()["peak_memory"] < with_ballast - 100e6


def test_every_cell_that_ran_is_charged_once(tmp_path: Path) -> None:
    cells = [small(seed=seed) for seed in range(2)]
    for _ in range(2):
        run_cells(cells, tmp_path)
    charged = list(read_records(tmp_path / COSTS_FILE))
    assert [entry["cell"] for entry in charged] == [cell.key for cell in cells]
    assert all(entry["seconds"] >= entry["seconds_per_round"] > 0 for entry in charged)
