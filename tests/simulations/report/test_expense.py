"""What the runs cost, from the notes of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flwr_robustcomp.simulations.report.expense import expense
from flwr_robustcomp.simulations.report.study import Section, read_study


@pytest.fixture
def section(folder: Path) -> Section:
    return read_study(folder).sections[0]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.5, "took 1 s,"), (90.0, "took 3.0 minutes,"), (6000.0, "took 200.0 minutes,")]
)
def test_all_runs_are_added_up(section: Section, seconds: float, said: str) -> None:
    runs = [
        replace(run, cost={"seconds": seconds, "seconds_per_round": 0.012, "peak_memory": 2**20}) for run in section.runs[:2]
    ]
    table = expense(replace(section, runs=runs))
    assert table is not None
    assert f"2 runs {said}" in table.caption
    assert [row[3:] for row in table.rows] == [["12", f"{seconds:.2g}", "1"]] * len(table.rows)


def test_what_was_not_noted_is_not_counted(section: Section) -> None:
    assert expense(replace(section, runs=[replace(run, cost={}) for run in section.runs])) is None
    half = [replace(run, cost={"seconds": 2.0} if index == 0 else {}) for index, run in enumerate(section.runs)]
    table = expense(replace(section, runs=half))
    assert table is not None
    assert "1 run took 2 s" in table.caption
    assert [row[2] for row in table.rows] == ["1"]
