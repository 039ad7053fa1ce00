"""A folder of records that somebody else wrote is data: it runs nothing, and what stands in it is text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE
from flwr_robustcomp.simulations.records.provenance import RUNS_FILE
from flwr_robustcomp.simulations.report import report
from flwr_robustcomp.simulations.report.study import read_study
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.suite import Suite
from tests.simulations.kit import SMALL

START = {"command": "robustcomp run x.toml", "started": "2026-01-01", "versions": {}, "machine": {}, "suites": {}}


def _write(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _rounds(scenario: Scenario, metric: str = "error", final: float = 0.5, **more: Any) -> list[dict[str, Any]]:
    values = [1.0, *[final] * scenario.rounds]
    return [{"cell": scenario.key, "round": t, metric: value, "bytes": 60 * t, **more} for t, value in enumerate(values)]


# -- nothing is run ---------------------------------------------------------------------------------------------------------


TRAP = {"name": "robustcomp_trap:Trap", "size": 3}
FIELDS: dict[str, Any] = {
    "compressor": TRAP,
    "strategy": TRAP,
    "attack": TRAP,
    "problem": TRAP,
    "filters": {"name": "robust-compressed", "filters": [TRAP]},
    "values": {"name": "top-k", "k": 3, "values": TRAP},
}
PLACES = {"filters": "strategy", "values": "compressor"}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("noted", [True, False])
def test_no_module_that_a_run_names_is_imported(tmp_path: Path, marker: Path, name: str, noted: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fields = {**SMALL, PLACES.get(name, name): FIELDS[name]}
    scenario = Scenario.parse(fields)
    facts = {"problem": {"metric": "error", "better": "lower", "dimension": 12}} if noted else {}
    _write(folder / CELLS_FILE, {"cell": scenario.key, "scenario": fields, **facts})
    _write(folder / ROUNDS_FILE, *_rounds(scenario, delta=0.5, trimmed=[1], rejected={}))
    page, words, _ = report(folder)
    assert not marker.exists()
    assert "1 of 1 run finished." in words[0]
    text = page.read_text(encoding="utf-8")
    assert "robustcomp_trap:Trap" in text
    assert "Final error" in text
    assert "size" in text


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("where", [RUNS_FILE, "mine.json"])
def test_no_module_that_a_suite_names_is_imported(tmp_path: Path, marker: Path, name: str, where: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    place, value = PLACES.get(name, name), FIELDS[name]
    suite: dict[str, Any] = {"title": "T", "base": {"nodes": 10, "rounds": 3}, "strategies": ["fed-avg"], "byzantine": [0, 2]}
    if place == "problem":
        suite["base"]["problem"] = value
    else:
        suite |= {"strategies" if place == "strategy" else f"{place}s": [value]}
    cells = Suite.model_validate(suite).cells()
    if where == RUNS_FILE:
        _write(folder / RUNS_FILE, {**START, "suites": {"mine": suite}})
    else:
        _write(folder / where, {"suite": suite})
    _write(folder / ROUNDS_FILE, *(line for cell in cells for line in _rounds(cell.scenario)))
    page, words, _ = report(folder)
    assert not marker.exists()
    assert "2 of 2 runs finished." in words[0]
    assert "robustcomp_trap:Trap" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "fields",
    [
        {"problem": {"name": "least-squares", "samples": 10**12}},
        {"problem": {"name": "least-squares", "dimension": 10**12}},
        {"problem": {"name": "classification", "data": "folder", "path": "/nowhere"}},
        {"compressor": {"name": "spherical-net", "block": 64, "bits": 60}},
        {"rounds": 10**12},
        {"seed": 10**200},
    ],
)
def test_no_data_are_made_for_a_recorded_run(tmp_path: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*args: Any, **given: Any) -> None:
        pytest.fail("something was built")

    for where in ("make_problem", "build"):
        monkeypatch.setattr(f"flwr_robustcomp.simulations.scenario.setup.{where}", made)
    monkeypatch.setattr("flwr_robustcomp.simulations.records.cell_index.make_problem", made)
    scenario = Scenario.parse({**SMALL, **fields})
    _write(tmp_path / CELLS_FILE, {"cell": scenario.key, "scenario": {**SMALL, **fields}})
    _write(tmp_path / ROUNDS_FILE, *_rounds(Scenario.parse(SMALL), "accuracy", delta=0.5, trimmed=[1]))
    with (tmp_path / ROUNDS_FILE).open("a") as file:
        file.writelines(json.dumps({"cell": scenario.key, "round": t, "error": 1, "trimmed": [1]}) + "\n" for t in range(4))
    report(tmp_path)


def test_a_recorded_run_of_too_many_nodes_or_a_suite_of_too_many_runs_is_counted(tmp_path: Path) -> None:
    suite = {"title": "T", "strategies": ["fed-avg"], "seeds": list(range(400)), "byzantine": list(range(400))}
    _write(tmp_path / RUNS_FILE, {**START, "suites": {"large": suite}})
    _write(
        tmp_path / CELLS_FILE,
        {"cell": "a", "scenario": {**SMALL, "nodes": 10**12}},
        {"cell": "b", "scenario": SMALL},
    )
    study = read_study(tmp_path)
    assert study.unreadable == 1
    assert "160,000 runs, more than the 100,000 that a report shows" in str(study.skipped[0])


def test_what_the_run_noted_is_shown(tmp_path: Path) -> None:
    scenario = Scenario.parse({**SMALL, "problem": "of_tomorrow:Weather"})
    facts = {"metric": "skill", "better": "higher", "dimension": 40}
    _write(tmp_path / CELLS_FILE, {"cell": scenario.key, "scenario": scenario.model_dump(), "problem": facts})
    _write(tmp_path / ROUNDS_FILE, *_rounds(scenario, "skill", final=3.5))
    (section,) = read_study(tmp_path).sections
    assert (section.metric, section.better, section.dimension) == ("skill", "higher", 40)
    page, words, _ = report(tmp_path)
    assert "higher is better" in page.read_text(encoding="utf-8")
    assert any(line.startswith("One update of 40 coordinates") for line in words)


@pytest.mark.parametrize(("measured", "better"), [("accuracy", "higher"), ("error", "lower"), ("loss", "lower")])
def test_older_records_are_known_by_what_they_measured(tmp_path: Path, measured: str, better: str) -> None:
    scenario = Scenario.parse({**SMALL, "problem": "of_tomorrow:Weather"})
    _write(tmp_path / CELLS_FILE, {"cell": scenario.key, "scenario": scenario.model_dump()})
    _write(tmp_path / ROUNDS_FILE, *_rounds(scenario, measured))
    (section,) = read_study(tmp_path).sections
    assert (section.metric, section.better, section.dimension) == (measured, better, None)
    _, words, _ = report(tmp_path)
    assert not any("coordinates" in line for line in words)


# -- what stands in a record is text ----------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>\n\x1b[31m\x9b\u202e[/red]:smile: $\\frac{"


def test_names_are_escaped_on_the_page_and_printed_as_text(tmp_path: Path) -> None:
    suite = {
        "title": HOSTILE,
        "base": {**{key: SMALL[key] for key in ("nodes", "rounds")}, "problem": HOSTILE},
        "strategies": [{"name": "fed-avg", "label": f"{HOSTILE} 2"}, {"name": HOSTILE}],
        "compressors": [HOSTILE, "l1-sign"],
        "attacks": [HOSTILE],
        "byzantine": [0, 2],
    }
    cells = Suite.model_validate(suite).cells()
    start = {**START, "command": HOSTILE, "started": HOSTILE, "versions": {HOSTILE: HOSTILE}, "machine": {HOSTILE: HOSTILE}}
    _write(tmp_path / RUNS_FILE, {**start, "suites": {HOSTILE: suite}})
    facts = {"metric": HOSTILE, "better": "lower", "dimension": 12}
    _write(
        tmp_path / CELLS_FILE, *({"cell": c.scenario.key, "scenario": c.scenario.model_dump(), "problem": facts} for c in cells)
    )
    norms = {"honest": [1.0, 2.0, 3.0]}
    more: dict[str, Any] = {"trimmed": [1], "norms": norms, "threshold": 2.0, "delta": 0.5, "rejected": {"2": HOSTILE}}
    _write(tmp_path / ROUNDS_FILE, *(line for c in cells for line in _rounds(c.scenario, HOSTILE, **more)))
    with (tmp_path / ROUNDS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"cell": HOSTILE, "round": HOSTILE}) + "\n")
    page, words, files = report(tmp_path, csv=tmp_path / "csv", latex=tmp_path / "tex", figures="svg")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert re.search(r"rounds\.jsonl line \d+: round: input should be a valid integer", text)
    assert words
    assert all(re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u202a-\u202e]*", line) for line in words)
    assert any("\\x1b[31m" in line for line in words)
    assert len(files) > 10


def test_the_command_prints_names_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rich reads square brackets and colons as markup."""
    from flwr_robustcomp.cli.report import report_command

    fields = [{**SMALL, "strategy": {"name": "[/red]:smile:", "x": seed}, "seed": 0} for seed in (1, 2)]
    scenarios = [Scenario.parse(one) for one in fields]
    _write(tmp_path / CELLS_FILE, *({"cell": s.key, "scenario": s.model_dump()} for s in scenarios))
    _write(tmp_path / ROUNDS_FILE, *(line for i, s in enumerate(scenarios) for line in _rounds(s, final=10.0**-i)))
    report_command(tmp_path)
    assert "[/red]:smile: x=1" in capsys.readouterr().out
