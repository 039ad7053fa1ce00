"""Without a run without attack there is no verdict: not in the words, not on the heat map, not on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.simulations.report import report
from flwr_robustcomp.simulations.report.heatmap import heat_map
from flwr_robustcomp.simulations.report.section import Run, Section
from flwr_robustcomp.simulations.report.verdicts import Defence, judge
from flwr_robustcomp.simulations.report.words import beaten_in_words, summary
from flwr_robustcomp.simulations.runs.sweep import run_cells
from flwr_robustcomp.simulations.scenario.suite import Suite
from tests.simulations.kit import small

NOTHING = "There is no run without attack to compare with, so nothing is said about who withstands what."
VERDICTS = ("withstands sign", "withstands it", "beats ours", "is beaten")


def _section(finals: dict[tuple[str, str], float | None], *, byzantine: list[int], better: str = "higher") -> Section:
    """Return a section whose runs end at these values, by defence and attack; those of None have not finished."""
    names = list(dict.fromkeys(name for name, _ in finals))
    suite = Suite.model_validate(
        {
            "title": "T",
            "base": {"nodes": 10, "rounds": 1, "problem": {"name": "least-squares", "samples": 80, "dimension": 12}},
            "strategies": [{"name": "norm-threshold", "trim": 2, "label": name} for name in names],
            "attacks": ["sign-flip"],
            "byzantine": byzantine,
        }
    )
    runs = []
    metric = "accuracy" if better == "higher" else "error"
    for cell in suite.cells():
        final = finals.get((cell.group.strategy, cell.group.attack))
        if final is not None:
            records: list[dict[str, Any]] = [{"round": 0, metric: 0.1}, {"round": 1, metric: final}]
            runs.append(Run(cell, records, {}))
    return Section("t", "T", suite.cells(), runs, {}, metric, better, 12, {})


def test_a_lone_run_under_attack_has_no_verdict(tmp_path: Path) -> None:
    run_cells([small(attack="sign-flip")], tmp_path)
    page, words, _ = report(tmp_path, csv=tmp_path / "csv")
    text = page.read_text(encoding="utf-8")
    table = (tmp_path / "csv" / "least-squares-heat-map.csv").read_text(encoding="utf-8")
    assert NOTHING in words
    assert NOTHING in text
    for said in ("\n".join(words), text, table):
        assert not any(verdict in said for verdict in (*VERDICTS, "No attack of this table", "beats", "withstands an"))


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_there_is_none_where_every_run_is_attacked(better: str) -> None:
    """Not even for the better of two: who says that it would not do better without attack?"""
    section = _section({("ours", "sign-flip"): 0.9, ("theirs", "sign-flip"): 0.001}, byzantine=[2], better=better)
    verdicts = judge(section)
    assert not verdicts.comparable
    for name in ("ours", "theirs"):
        assert verdicts.withstands(Defence("l1-sign", name), (2, "sign-flip")) is None
        assert not verdicts.beaten(Defence("l1-sign", name), (2, "sign-flip"))
    lines = summary(section, verdicts)
    assert lines.count(NOTHING) == 1
    assert not any(verdict in line for line in lines for verdict in VERDICTS)
    assert any(line.startswith("Sign-flip: best is") for line in lines)  # which compares runs of one setting
    heat = heat_map(section, verdicts)
    assert not any(cell.beaten for _, rows in heat.groups for _, cells in rows for cell in cells if cell is not None)
    assert "beats" not in heat.table.caption


@pytest.mark.parametrize("clean", [None, float("inf"), float("nan")])
def test_there_is_none_while_the_run_without_attack_has_no_figure(clean: float | None) -> None:
    section = _section({("ours", "none"): clean, ("ours", "sign-flip"): 0.9}, byzantine=[0, 2])
    line = "No run without attack has ended with a figure to compare with, so nothing is said about who withstands what."
    lines = summary(section, judge(section))
    assert line in lines
    assert not any(verdict in said for said in lines for verdict in VERDICTS)


def test_a_defence_without_a_run_of_its_own_may_withstand_but_nothing_is_known_of_what_beats_it() -> None:
    finals = {("ours", "none"): None, ("ours", "sign-flip"): 0.3, ("theirs", "none"): 0.9, ("theirs", "sign-flip"): 0.89}
    section = _section(finals, byzantine=[0, 2])
    verdicts = judge(section)
    ours = Defence("l1-sign", "ours")
    assert verdicts.withstands(ours, (2, "sign-flip")) is False
    assert not verdicts.beaten(ours, (2, "sign-flip"))
    unknown = "ours has no finished run of its own without attack, so nothing is said about what beats it."
    assert beaten_in_words(section, verdicts, "ours") == [unknown]
    assert beaten_in_words(section, verdicts, "theirs") == [
        "theirs withstands sign-flip.",
        "No attack of this table beats theirs.",
    ]
    section = _section(finals | {("ours", "sign-flip"): 0.88}, byzantine=[0, 2])
    assert beaten_in_words(section, judge(section), "ours") == ["ours withstands sign-flip.", unknown]


def test_runs_that_nobody_attacked_need_no_such_line() -> None:
    section = _section({("ours", "none"): 0.9}, byzantine=[0])
    assert not any("nothing is said" in line for line in summary(section, judge(section)))


@pytest.mark.parametrize("first", [0.0, -1.0])
def test_an_error_that_is_not_positive_has_no_orders_of_magnitude(first: float) -> None:
    section = _section({("ours", "none"): 0.5, ("ours", "sign-flip"): 0.6}, byzantine=[0, 2], better="lower")
    for run in section.runs:
        run.records[0]["error"] = first
    assert judge(section).withstands(Defence("l1-sign", "ours"), (2, "sign-flip")) is False
