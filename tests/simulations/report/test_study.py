from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE
from flwr_robustcomp.simulations.records.provenance import RUNS_FILE, note_start
from flwr_robustcomp.simulations.report import report
from flwr_robustcomp.simulations.report.study import read_study
from flwr_robustcomp.simulations.runs.sweep import run_cells
from tests.simulations.kit import small
from tests.simulations.report.conftest import SUITES


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished comparison, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@contextmanager
def _lines(path: Path) -> Iterator[list[str]]:
    lines = path.read_text().splitlines(keepends=True)
    yield lines
    path.write_text("".join(lines))


def test_a_finished_comparison_is_read_whole(folder: Path) -> None:
    study = read_study(folder)
    assert [section.name for section in study.sections] == ["digits", "squares"]
    for section, suite in zip(study.sections, SUITES.values(), strict=True):
        assert [run.cell for run in section.runs] == suite.cells() == section.cells
        assert section.unfinished == {}
        assert all(run.cost["seconds"] > 0 for run in section.runs)
    digits, squares = study.sections
    assert digits.settings == [(0, "none"), (2, "shifted-labels"), (2, "gaussian-noise")]
    assert digits.compressors == ["l1-sign", "top-k", "sign"]
    assert (digits.metric, digits.better, digits.dimension) == ("accuracy", "higher", 64 * 4 + 4 + 4 * 10 + 10)
    assert (squares.metric, squares.better, squares.dimension) == ("error", "lower", 12)


def test_an_unfinished_comparison_says_what_is_missing_and_how_to_finish_it(copy: Path) -> None:
    (copy / "digits.json").unlink()  # which is written last
    cells = SUITES["digits"].cells()
    partly, never = cells[0].scenario.key, cells[5].scenario.key
    with _lines(copy / ROUNDS_FILE) as lines:
        lines[:] = [
            line
            for line in lines
            if (entry := json.loads(line))["cell"] != never and not (entry["cell"] == partly and entry["round"] > 2)
        ] + ['{"cell": "torn']
    section = read_study(copy).sections[0]
    assert section.unfinished == {cells[0]: 2, cells[5]: 0}
    assert len(section.runs) == len(cells) - 2
    page, words, _ = report(copy)
    text = page.read_text()
    assert f"2 of {len(cells)} runs have not finished" in text
    assert f"{cells[0].name}: 2 of 4 rounds" in text
    assert f"{cells[5].name}: not started" in text
    assert text.count("robustcomp compare digits.toml squares.toml") >= 2
    assert f"{len(cells) - 2} of {len(cells)} runs finished." in words[0]


def test_a_comparison_that_has_only_started_has_a_report(tmp_path: Path) -> None:
    note_start(tmp_path, ["compare", "squares.toml"], {"squares": SUITES["squares"]})
    page, words, _ = report(tmp_path)
    assert "No run has finished, so there is nothing to say yet." in words
    assert "4 of 4 runs have not finished" in page.read_text()


def test_records_from_before_there_was_an_account_are_read_by_their_own_files(copy: Path) -> None:
    (copy / RUNS_FILE).unlink()
    study = read_study(copy)
    assert [section.title for section in study.sections] == ["Tiny digits", "Tiny squares"]
    page, _, _ = report(copy)
    assert "older than the account of commands and versions" in page.read_text()


def test_runs_of_no_suite_are_grouped_by_problem(tmp_path: Path) -> None:
    run_cells([small(seed=0), small(seed=1), small(byzantine=0), small(error_feedback=True)], tmp_path)
    (section,) = read_study(tmp_path).sections
    assert section.title == "least-squares, 10 nodes, 3 rounds"
    assert len(section.runs) == 4
    assert section.strategies == [
        "norm-threshold trim=3 step_size=0.4",
        "norm-threshold trim=3 step_size=0.4 with error feedback",
    ]


def test_what_this_version_does_not_know_is_counted_and_left_out(copy: Path) -> None:
    with _lines(copy / CELLS_FILE) as lines:
        lines.append(json.dumps({"cell": "x", "scenario": {"weather": "of-tomorrow"}}) + "\n")
    assert read_study(copy).unreadable == 1
    page, _, _ = report(copy)
    assert "1 recorded runs name something" in page.read_text()


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_folder_without_a_record_is_one_line(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.write_text("")
    with pytest.raises(ConfigurationError, match=r"folder must hold a record \(rounds.jsonl\), got '.*'"):
        report(path)
