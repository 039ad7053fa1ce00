"""No minority ends a run of the default filter or throws its model: whole runs under the attacks that once did."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.simulations.runs.run import quiet_flower, run_scenario
from flwr_robustcomp.simulations.scenario import Scenario

BASE: dict[str, Any] = {
    "nodes": 20,
    "byzantine": 4,
    "rounds": 30,
    "problem": {"name": "least-squares", "samples": 1600, "dimension": 100},
    "strategy": {"name": "robust-compressed", "trim": 4, "step_size": 0.5},
}
RECIPES: list[dict[str, Any]] = [
    {"compressor": "l1-sign"},
    {"compressor": "identity"},
    {"compressor": {"name": "top-k", "ratio": 0.2}, "error_feedback": True},
    {"compressor": "drive", "error_feedback": True},
    {"compressor": "l1-sign", "granularity": "array"},
]


def errors(**fields: Any) -> list[float]:
    with quiet_flower():
        return [float(record["error"]) for record in run_scenario(Scenario.parse({**BASE, **fields}))]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("attack", ["rod", "rod-with-residuals", {"name": "cancelling-pairs", "length": 1e12}], ids=str)
def test_colluders_of_any_length_do_not_hold_up_the_default(attack: Any, recipe: dict[str, Any]) -> None:
    """Before, the model overflowed, and `QuorumError` came at round 14."""
    for seed in (0, 1):
        curve = errors(attack=attack, seed=seed, **recipe)
        assert curve[-1] < 0.05 * curve[0]


@pytest.mark.parametrize(
    "filters", ["geometric-median", "nearest-neighbor-mixing+spectral", "nearest-neighbor-mixing+geometric-median"]
)
def test_one_liar_of_24_throws_no_filter(filters: str) -> None:
    curve = errors(
        nodes=24,
        byzantine=1,
        problem={**BASE["problem"], "samples": 2400},
        attack={"name": "rod", "length": 1e15},
        strategy={"name": "robust-compressed", "filters": filters, "trim": 4, "step_size": 0.5},
    )
    assert curve[-1] < 0.05 * curve[0]
