"""A folder that is made to do harm: links out of it, and suites that multiply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.records.provenance import RUNS_FILE
from flwr_robustcomp.simulations.report import report, study
from flwr_robustcomp.simulations.report.section import Section
from flwr_robustcomp.simulations.scenario.suite import Suite


def _suite(count: int) -> dict[str, Any]:
    compressors = [{"name": "top-k", "k": k + 1} for k in range(count)]
    return {"title": "T", "base": {"rounds": 1}, "strategies": ["fed-avg"], "compressors": compressors}


def _start(folder: Path, **suites: dict[str, Any]) -> None:
    start = {"command": "x", "started": "2026-01-01", "versions": {}, "machine": {}, "suites": suites}
    (folder / RUNS_FILE).write_text(json.dumps(start) + "\n")


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    (outside := tmp_path / "outside").mkdir()
    (victim := tmp_path / "victim").write_text("mine")
    _start(folder, s=_suite(1))
    (folder / "report.html").symlink_to(victim)
    (folder / "figures").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="figures must go to a folder of its own, got a link"):
        report(folder, figures="svg")
    with pytest.raises(ConfigurationError, match="csv must go to a folder of its own, got a link"):
        report(folder, csv=folder / "figures")
    page, _, _ = report(folder)
    assert victim.read_text() == "mine"
    assert not page.is_symlink()
    assert not [*outside.iterdir()]


def test_the_runs_of_all_suites_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_MOST_RUNS", 5)
    _start(tmp_path, a=_suite(3), b=_suite(3), c=_suite(2))
    found = study.read_study(tmp_path)
    assert [section.name for section in found.sections] == ["a", "c"]
    assert "suite 'b' cannot be read: it has 3 runs, and those before it leave 2 of the 5" in str(found.skipped[0])


def test_what_all_runs_share_is_worked_out_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads = 0
    shared: Any = vars(Section)["compressors"]
    original = shared.func

    def counted(section: Section) -> Any:
        nonlocal reads
        reads += 1
        return original(section)

    monkeypatch.setattr(shared, "func", counted)
    _start(tmp_path, s=_suite(30))
    report(tmp_path)
    assert reads == 1
    assert len({cell.group for cell in Suite.model_validate(_suite(30)).cells()}) == 30
