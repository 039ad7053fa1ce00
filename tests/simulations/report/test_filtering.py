from __future__ import annotations

import math
from typing import Any

import pytest

from flwr_robustcomp.simulations.report.contraction import contraction
from flwr_robustcomp.simulations.report.filtering import detection, found, norms
from flwr_robustcomp.simulations.report.study import Run, Section
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from flwr_robustcomp.simulations.scenario.suite import Suite, SuiteCell
from flwr_robustcomp.theory import needed_delta

SUITE = Suite.model_validate(
    {
        "title": "T",
        "base": {"nodes": 10, "rounds": 4, "problem": {"name": "least-squares", "samples": 80, "dimension": 12}},
        "strategies": [{"name": "norm-threshold", "trim": 3, "label": "ours"}],
        "byzantine": [2],
    }
)
(CELL,) = SUITE.cells()
LIARS = sorted(byzantine_partitions(CELL.scenario))
HONEST = next(node for node in range(10) if node not in LIARS)


def _run(rounds: list[dict[str, Any]], cell: SuiteCell = CELL) -> Run:
    records = [{"round": 0, "error": 1.0}, *({"round": t, "error": 1.0, **r} for t, r in enumerate(rounds, 1))]
    return Run(cell, records, {}, guaranteed=1 / 12)


def _section(*runs: Run) -> Section:
    return Section("t", "T", [run.cell for run in runs], runs, {}, "error", "lower", 12, {})


def test_precision_and_recall_count_the_trimmed_and_the_rejected() -> None:
    run = _run(
        [
            {"trimmed": [*LIARS, HONEST], "rejected": {}},
            {"trimmed": [HONEST], "rejected": {str(LIARS[0]): "wire"}},
            {"trimmed": [], "rejected": {}},
            {"trimmed": [LIARS[1]], "rejected": {}},
        ]
    )
    values = found(run)
    assert values[0][0] == pytest.approx(2 / 3) and values[0][1] == 1.0
    assert values[1] == (0.5, 0.5)
    assert math.isnan(values[2][0])
    assert values[2][1] == 0.0
    assert values[3] == (1.0, 0.5)
    (block,) = detection(_section(run))
    assert block.table.rows == [["gaussian-noise", "ours", "100\u202f%", "25\u202f%"]]  # rounds 3 and 4


def test_who_trims_nobody_is_not_listed() -> None:
    assert detection(_section(_run([{"trimmed": [], "rejected": {}}] * 4))) == []


def test_norms_and_threshold_are_drawn_as_recorded() -> None:
    record = {"trimmed": LIARS, "threshold": 3.0, "norms": {"honest": [1.0, 2.0, 3.0], "byzantine": [7.0, 8.0, 9.0]}}
    (block,) = norms(_section(_run([record] * 4)))
    honest, byzantine, threshold = block.charts[0].series
    assert (honest.low[0], honest.mid[0], honest.high[0]) == (1.0, 2.0, 3.0)
    assert (byzantine.low[0], byzantine.mid[0], byzantine.high[0]) == (7.0, 8.0, 9.0)
    assert set(threshold.mid) == {3.0}
    assert block.charts[0].y.low < 1 < 9 < block.charts[0].y.high
    assert block.table.rows[0] == ["gaussian-noise", "1", "1", "2", "3", "7", "8", "9", "3"]


def test_delta_is_shown_where_recorded_and_with_what_theory_asks() -> None:
    record = {"trimmed": [*LIARS, HONEST]}
    assert contraction(_section(_run([record] * 4))) == []
    (block,) = contraction(_section(_run([record | {"delta": value} for value in (0.1, 0.2, 0.6, 0.7)])))
    assert [series.label for series in block.charts[0].series] == ["l1-sign", "Theorem 2 asks"]
    assert block.charts[0].series[0].mid == [0.1, 0.2, 0.6, 0.7]
    assert block.table.rows == [["gaussian-noise", "l1-sign", "0.65", "0.083", f"{needed_delta(0.2, 0.3):.2g}"]]
