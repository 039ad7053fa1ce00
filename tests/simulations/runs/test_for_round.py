"""Compressors that draw anew in each round draw the same on clients and server, on every engine."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.simulations import Scenario
from flwr_robustcomp.simulations.runs.run import run_scenario
from flwr_robustcomp.simulations.scenario.setup import check_components
from tests.simulations.kit import digits

ROTATED: dict[str, dict[str, Any]] = {
    "drive": {"name": "drive", "seed": 3},
    "low-rank": {"name": "low-rank", "rank": 2, "method": "power"},
    "rotated-quantizer": {"name": "rotated-quantizer", "levels": 4},
}


def _scenario(compressor: str) -> Scenario:
    return digits(compressor=ROTATED[compressor], granularity="array", error_feedback=True, rounds=4)


@pytest.mark.parametrize("compressor", ROTATED)
def test_no_reply_of_any_round_is_refused(compressor: str) -> None:
    records = run_scenario(_scenario(compressor))
    assert [record["rejected"] for record in records[1:]] == [{}] * 4
    assert all(record["kept"] == 7 for record in records[1:])


@pytest.mark.processes
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("compressor", ROTATED)
def test_the_curve_does_not_depend_on_the_engine(compressor: str) -> None:
    scenario = _scenario(compressor)
    # One worker: each imports everything anew, and it already draws in another process than the server.
    assert run_scenario(scenario, engine="ray", num_workers=1) == run_scenario(scenario)


@pytest.mark.processes
@pytest.mark.usefixtures("ray")
def test_a_memory_over_rotations_is_the_same_on_every_engine() -> None:
    filters = "norm-clipping+over-time:multi-krum+fools-gold"
    strategy = {"name": "robust-compressed", "trim": 1, "filters": filters, "memory": 0.7}
    scenario = digits(compressor="drive", error_feedback=True, rounds=4, strategy=strategy)
    assert run_scenario(scenario, engine="ray", num_workers=2) == run_scenario(scenario)


def test_a_rank_that_fits_no_array_and_a_model_without_matrices_say_so() -> None:
    for fields, named in (
        (
            {"compressor": {"name": "low-rank", "rank": 9}, "granularity": "array"},
            r"compressor 'low-rank': array 'hidden.weight': rank must be in \[1, 4\]",
        ),
        ({"compressor": {"name": "low-rank", "rank": 2}}, "granularity must be \"array\" for 'low-rank'"),
        (
            {
                "compressor": {"name": "low-rank", "rank": 2},
                "granularity": "array",
                "problem": {"name": "least-squares", "samples": 80, "dimension": 12},
                "attack": "gaussian-noise",
            },
            "at least one matrix for 'low-rank'",
        ),
    ):
        with pytest.raises(ValueError, match=named):
            check_components(digits(**fields))
