"""docs/robustness.md: what the page says follows from the records, and from complete seeds only."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.robustness import Outcome, outcomes, page
from flwr_robustcomp.simulations.setup import byzantine_partitions
from flwr_robustcomp.simulations.suite import Suite
from tests.simulations.kit import SMALL

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
