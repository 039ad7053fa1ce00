"""The summary says what the numbers say: records are written by hand here."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.simulations.report.curves import against_bytes
from flwr_robustcomp.simulations.report.study import Run, Section
from flwr_robustcomp.simulations.report.tables import MISSING
from flwr_robustcomp.simulations.report.verdicts import Defence, judge
from flwr_robustcomp.simulations.report.words import beaten_in_words, join, summary
from flwr_robustcomp.simulations.scenario.suite import Suite

SEEDS = (0, 1)


def _section(
    finals: dict[tuple[str, str], float],
    *,
    metric: str = "accuracy",
    wobble: float = 0.002,
    strategies: list[dict[str, Any]] | None = None,
) -> Section:
    """Return a section whose runs end at these means, give or take, by defence and attack."""
    names = list(dict.fromkeys(name for name, _ in finals))
    suite = Suite.model_validate(
        {
            "title": "T",
            "base": {"nodes": 10, "rounds": 1, "problem": {"name": "least-squares", "samples": 80, "dimension": 12}},
            "strategies": strategies or [{"name": "norm-threshold", "label": name} for name in names],
            "attacks": ["gaussian-noise", "sign-flip"],
            "byzantine": [0, 2],
            "seeds": list(SEEDS),
        }
    )
    runs = []
    for cell in suite.cells():
        mean = finals.get((cell.group.strategy, cell.group.attack))
        if mean is not None:
            value = mean * (1 + wobble * (1 if cell.scenario.seed else -1))
            records: list[dict[str, Any]] = [{"round": 0, metric: 0.1}, {"round": 1, metric: value, "bytes": 60}]
            runs.append(Run(cell, records, {}))
    better = "higher" if metric == "accuracy" else "lower"
    return Section("t", "T", suite.cells(), runs, {}, metric, better, 12, {})


FINALS = {
    ("ours", "none"): 0.90,
    ("ours", "gaussian-noise"): 0.89,
    ("ours", "sign-flip"): 0.60,
    ("theirs", "none"): 0.91,
    ("theirs", "gaussian-noise"): 0.30,
    ("theirs", "sign-flip"): 0.88,
}


def test_it_says_who_beats_the_first_defence_and_who_withstands() -> None:
    section = _section(FINALS)
    lines = summary(section, judge(section))
    assert lines[0] == "2 defences against 2 attacks with 1 compressor and 2 seeds: 12 of 12 runs finished."
    assert lines[1] == "Ours withstands gaussian-noise."
    assert lines[2] == "Ours is beaten by sign-flip (accuracy 60.00 ± 0.12\u202f%). theirs withstands it."
    assert "Gaussian-noise: best is ours, 89.00 ± 0.18\u202f%; worst is theirs, 30.00 ± 0.06\u202f%." in lines
    assert "One update of 12 coordinates takes 48 bytes as float32: 6 with l1-sign (8.0 times less)." in lines


def test_it_says_so_where_nobody_withstands() -> None:
    section = _section(FINALS | {("theirs", "sign-flip"): 0.5})
    assert any(line.endswith("No other one withstands it.") for line in summary(section, judge(section)))


def test_it_says_so_where_no_attack_beats_a_defence() -> None:
    section = _section(FINALS | {("ours", "sign-flip"): 0.89})
    lines = summary(section, judge(section))
    assert lines[1:3] == ["Ours withstands gaussian-noise and sign-flip.", "No attack of this table beats ours."]


def test_nothing_is_said_of_attacks_whose_runs_are_missing() -> None:
    section = _section({key: value for key, value in FINALS.items() if key != ("ours", "sign-flip")})
    assert beaten_in_words(section, judge(section), "ours") == ["ours withstands gaussian-noise."]


def test_a_defence_that_is_far_from_the_best_without_attack_is_not_called_robust() -> None:
    weak = {("ours", attack): 0.3 for attack in ("none", "gaussian-noise", "sign-flip")}
    section = _section(FINALS | weak)
    line = "No attack of this table beats ours, but it ends far from the best without attack."
    assert beaten_in_words(section, judge(section), "ours") == [line]


@pytest.mark.parametrize(("trim", "told"), [(2, True), (0, False)])
def test_norm_thresholding_is_told_of_wherever_it_stands(trim: int, told: bool) -> None:
    """And averaging, which is norm thresholding that trims nobody, is not."""
    section = _section(
        FINALS,
        strategies=[
            {"name": "fed-avg", "label": "ours"},
            {"name": "norm-threshold", "trim": trim, "label": "theirs"},
        ],
    )
    lines = summary(section, judge(section))
    assert ("Theirs is beaten by gaussian-noise (accuracy 30.00 ± 0.06\u202f%). ours withstands it." in lines) == told


def test_a_difference_within_the_spread_is_no_victory() -> None:
    section = _section(FINALS | {("ours", "sign-flip"): 0.84}, wobble=0.08)
    lines = summary(section, judge(section))
    assert not any("beaten" in line for line in lines)
    assert any(line.startswith("No attack: all defences end within each other's spread") for line in lines)


def test_errors_are_compared_by_the_orders_of_magnitude_gained() -> None:
    """From 0.1 to 1e-9 is eight: four must be kept."""
    errors = {
        ("ours", "none"): 1e-9,
        ("ours", "gaussian-noise"): 0.9e-5,
        ("ours", "sign-flip"): 1.1e-5,
        ("theirs", "none"): 2e-9,
        ("theirs", "gaussian-noise"): 0.09,
        ("theirs", "sign-flip"): 2e-9,
    }
    verdicts = judge(_section(errors, metric="error"))
    ours, noise, flip = Defence("l1-sign", "ours"), (2, "gaussian-noise"), (2, "sign-flip")
    assert (verdicts.reference, verdicts.initial) == pytest.approx((1e-9, 0.1))
    assert verdicts.withstands(ours, noise)
    assert not verdicts.beaten(ours, noise)
    assert not verdicts.withstands(ours, flip)
    assert verdicts.beaten(ours, flip)
    assert verdicts.ranked(noise)[0][0] == ours


def test_a_run_that_diverged_is_beaten_and_last() -> None:
    section = _section({**FINALS, ("ours", "gaussian-noise"): float("inf")})
    verdicts = judge(section)
    assert verdicts.beaten(Defence("l1-sign", "ours"), (2, "gaussian-noise"))
    assert verdicts.ranked((2, "gaussian-noise"))[-1][0].strategy == "ours"
    assert verdicts.goodness(Defence("l1-sign", "ours"), (2, "gaussian-noise")) == 0.0
    assert any("worst is ours, diverged" in line for line in summary(section, verdicts))


def test_a_defence_that_is_weak_anyway_neither_withstands_nor_is_beaten() -> None:
    section = _section({**FINALS, ("theirs", "none"): 0.32, ("theirs", "gaussian-noise"): 0.30})
    verdicts = judge(section)
    theirs = Defence("l1-sign", "theirs")
    assert verdicts.withstands(theirs, (2, "gaussian-noise")) is False
    assert not verdicts.beaten(theirs, (2, "gaussian-noise"))


def test_missing_runs_have_no_verdict() -> None:
    section = _section({key: value for key, value in FINALS.items() if key != ("ours", "sign-flip")})
    verdicts = judge(section)
    assert verdicts.withstands(Defence("l1-sign", "ours"), (2, "sign-flip")) is None
    assert not verdicts.beaten(Defence("l1-sign", "ours"), (2, "sign-flip"))


def test_lists_read_as_english() -> None:
    assert [join(items) for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_traffic_is_shown_both_ways_where_it_is_known() -> None:
    section = _section(FINALS)
    for chart in against_bytes(section)[0].charts:  # a record from before the way down was counted
        assert chart.x.label == "megabytes sent by all nodes; the way down is not recorded"
    for run in section.of(strategy="ours"):
        run.records[1].update(bytes_sent=140, bytes_dense=960)
    (block,) = against_bytes(section)
    for chart in block.charts:
        assert chart.x.label == "megabytes, both ways"
        ends = {series.label: series.x[-1] for series in chart.series}
        assert ends == {"ours": pytest.approx(200e-6), "theirs (up only)": pytest.approx(60e-6)}
    up, down = (block.table.header.index(name) for name in ("MB up", "MB down"))
    assert {(row[1], row[up], row[down]) for row in block.table.rows} == {
        ("ours", "6e-05", "0.00014"),
        ("theirs", "6e-05", MISSING),
    }
