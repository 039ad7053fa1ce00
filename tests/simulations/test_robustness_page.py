"""docs/robustness.md: what both parts of the page say follows from the records, and from complete seeds only."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.colluders import part, settings
from benchmarks.outcomes import Outcome, outcomes, row
from benchmarks.robustness import page
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from flwr_robustcomp.simulations.scenario.suite import Suite
from tests.simulations.kit import ROOT, SMALL

SUITE = Suite.model_validate(
    {
        "title": "T",
        "base": {**{key: SMALL[key] for key in ("problem", "nodes")}, "rounds": 2},
        "strategies": [
            {"name": "robust-compressed", "trim": 2, "label": "spectral"},
            {"name": "norm-threshold", "trim": 2, "label": "norm"},
            {"name": "fed-avg", "label": "mean"},
        ],
        "attacks": ["inner-product", "mimic"],
        "byzantine": [0, 2],
        "seeds": [0, 1, 2],
    }
)
FINAL = {"spectral": 0.02, "norm": 0.004, "mean": 90.0}


def _records(missing: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return a record in which the mean diverges under attack, and the norm filter beats the spectral one under mimic."""
    curves = {}
    for cell in SUITE.cells():
        group, seed = cell.group, cell.scenario.seed
        final: float | None = 1e-3 * (seed + 1)
        if group.byzantine:
            final = FINAL[group.strategy] * (seed + 1)
            if group.strategy == "norm" and group.attack == "inner-product":
                final = 0.1 * (seed + 1)
            if group.strategy == "mean" and seed == 2:
                final = None  # not finite
        trimmed = sorted({*list(byzantine_partitions(cell.scenario))[:1], 9}) if group.strategy != "mean" else []
        run = [{"round": t, "error": e, "trimmed": trimmed} for t, e in enumerate((10.0, 0.5, final))]
        curves[cell.scenario.key] = run[:2] if (seed, group.strategy) == (missing, "norm") else run
    return curves


def test_the_table_has_median_and_worst_of_the_seeds() -> None:
    found, seeds = outcomes(SUITE.cells(), _records())
    assert seeds == [0, 1, 2]
    assert found["mimic", "spectral"].finals == pytest.approx((0.02, 0.04, 0.06))
    assert found["mimic", "mean"].diverged == 3  # 90 is above the start's 10
    assert found["mimic", "spectral"].arrived == 2  # the first round with a hundredth of 10
    text = page(SUITE, found, seeds)
    lines = text.splitlines()
    assert "| mimic | 4e-2 (6e-2) | **8e-3 (1e-2)** | diverged (diverged) |" in lines
    assert "| none | **2e-3 (3e-3)** | **2e-3 (3e-3)** | **2e-3 (3e-3)** |" in lines
    assert "| **worst of all** | 4e-2 | 2e-1 | diverged |" in lines
    assert "No seed of any attack drives these away from the solution: spectral, norm." in lines
    assert "Attacks under which at least one seed diverges: mean 2." in lines
    assert "record of 27 runs" in text
    assert "3 of 3 seeds" in text


def test_the_page_says_where_the_filter_loses_and_by_how_much() -> None:
    found, seeds = outcomes(SUITE.cells(), _records())
    losses = page(SUITE, found, seeds).split("## ")[1].splitlines()
    assert [line for line in losses if line.startswith("| mimic")] == ["| mimic | 4e-2 | norm | 8e-3 | 5 |"]
    assert not any(line.startswith("| inner-product") for line in losses)  # there it wins


def test_only_seeds_that_every_combination_has_count() -> None:
    found, seeds = outcomes(SUITE.cells(), _records(missing=1))
    assert seeds == [0, 2]
    assert all(len(outcome.finals) == 2 for outcome in found.values())
    assert "2 of 3 seeds" in page(SUITE, found, seeds)
    assert outcomes(SUITE.cells(), {}) == ({}, [])


def test_what_was_dropped_is_counted_by_honesty() -> None:
    found, _ = outcomes(SUITE.cells(), _records())
    own = found["mimic", "spectral"]
    assert own.caught is not None
    assert own.lost is not None
    assert own.caught + own.lost >= 1
    assert found["mimic", "mean"].caught is None


def test_a_run_that_never_arrives_is_said_to() -> None:
    outcome = Outcome(10.0, (1.0, math.inf), math.inf, None, None)
    assert str(outcome) == "diverged (diverged)"
    assert outcome.diverged == 1


COLLUDERS = Suite.model_validate(
    {
        "title": "C",
        "base": {**{key: SMALL[key] for key in ("problem", "nodes")}, "rounds": 2},
        "strategies": [
            {"name": "robust-compressed", "trim": "byzantine+1", "label": "spectral"},
            {"name": "norm-threshold", "trim": "byzantine+1", "label": "norm"},
            {"name": "robust-compressed", "trim": 2, "label": "spectral", "compressor": "drive", "error_feedback": True},
            {"name": "norm-threshold", "trim": 2, "label": "norm", "compressor": "drive", "error_feedback": True},
        ],
        "attacks": [{"name": "drift", "start": 3}, "spike", "bounce"],
        "byzantine": [1, 2],
        "seeds": [0, 1, 2],
    }
)


def _colluding(missing: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return a record in which the spike beats the spectral filter, and with two Byzantine nodes the norm filter too."""
    curves = {}
    for cell in COLLUDERS.cells():
        group, seed = cell.group, cell.scenario.seed
        final: float | None = 1e-3 * (seed + 1)
        if group.attack == "spike" and group.strategy == "spectral":
            final = 0.7 * (seed + 1) if group.compressor == "l1-sign" else 0.3 * (seed + 1)
        if group.attack == "spike" and group.byzantine == 2:
            final = 20.0 if group.compressor == "drive" and group.strategy == "spectral" else 0.2
        if group.attack == "bounce" and group.strategy == "norm" and group.byzantine == 1:
            final = 0.05 if seed < 2 else None  # one seed is enough to fall
        run: list[dict[str, Any]] = [{"round": t, "error": e, "trimmed": []} for t, e in enumerate((10.0, 0.5, final))]
        curves[cell.scenario.key] = run[:2] if (seed, group.attack, group.byzantine) == (missing, "bounce", 2) else run
    return curves


def test_there_is_a_table_for_each_share_and_compression() -> None:
    found = settings(COLLUDERS, _colluding())
    assert [one.title for one in found] == [
        "10% Byzantine, l1-sign",
        "10% Byzantine, drive with error feedback",
        "20% Byzantine, l1-sign",
        "20% Byzantine, drive with error feedback",
    ]
    assert all(one.attacks == ["spike", "bounce"] and one.defences == ["spectral", "norm"] for one in found)
    text = "\n".join(part(COLLUDERS, found))
    assert text.startswith("## Colluders at 10% and 20%\n")
    assert "record of 72 more runs" in text
    first = text.split("### ")[1].splitlines()
    assert "| none | **2e-3 (3e-3)** | **2e-3 (3e-3)** |" in first  # an attack that never begins
    assert "| spike | 1e0 (2e0) | **2e-3 (3e-3)** |" in first
    assert "| bounce | **2e-3 (3e-3)** | 5e-2 (diverged) |" in first


def test_the_worst_attack_and_what_withstands_it_are_named() -> None:
    tables = "\n".join(part(COLLUDERS, settings(COLLUDERS, _colluding()))).split("### ")
    tables = [" ".join(table.split()) for table in tables]
    verdicts = tables[1:]
    assert "The worst for `spectral` is spike: error 1e0 against 2e-3 without attack." in verdicts[0]
    assert "It is withstood, with an end below 1% of the start's error for every seed, by norm (2e-3)." in verdicts[0]
    assert "No defence withstands them all." in verdicts[0]
    nobody = "No defence of the table withstands it: none ends below 1% of the start's error with every seed."
    assert nobody in verdicts[3]
    assert (
        "The worst of all for `spectral` is spike at 20% Byzantine, drive with error feedback: error 2e1 against 2e-3 without"
        f" attack. {nobody}"
    ) in tables[0]


def test_nothing_is_the_best_where_all_diverge() -> None:
    outcome = Outcome(1.0, (2.0, 3.0), math.inf, None, None)
    table = {("a", "x"): outcome, ("a", "y"): outcome}
    assert row("a", ["x", "y"], table) == "| a | diverged (diverged) | diverged (diverged) |"


def test_a_defence_that_withstands_them_all_is_named() -> None:
    curves = {
        key: [{**record, "error": 0.01 if record["round"] == 2 else record["error"]} for record in run]
        for key, run in _colluding().items()
    }
    text = " ".join(part(COLLUDERS, settings(COLLUDERS, curves)))
    assert text.count("Every attack of the table is withstood by spectral, norm.") == 4


def test_only_seeds_that_every_table_has_count_in_the_second_part() -> None:
    found = settings(COLLUDERS, _colluding(missing=1))
    assert {one.seeds for one in found} == {(0, 2)}
    assert all(len(outcome.finals) == 2 for one in found for outcome in one.found.values())
    assert "2 of 3 seeds" in "\n".join(part(COLLUDERS, found))
    assert settings(COLLUDERS, {}) == []


def test_the_suite_of_colluders_has_two_shares_within_every_budget() -> None:
    suite = Suite.from_toml(ROOT / "examples" / "colluders.toml")
    nodes = suite.base["nodes"]
    assert [count / nodes for count in suite.byzantine] == [0.2, 0.4]
    assert min(suite.seeds) >= 0 and max(suite.seeds) < 100  # the defaults were chosen on seeds from 100
    never = [attack for attack in suite.attacks if attack.params.get("start", 1) > suite.base["rounds"]]
    assert len(never) == 1
    assert {(c.name, s.error_feedback or False) for s in suite.strategies if (c := s.compressor)} == {
        ("l1-sign", False),
        ("drive", True),
    }
