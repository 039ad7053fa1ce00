"""Packed models on their way down, and rounds of a few sampled nodes: one curve on every engine, and after a resume."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.randomness import seeded_python
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario.setup import check_components, make_strategy
from tests.checkpoints.kit import Stopped
from tests.simulations.kit import digits, small

SHAPE = {"name": "least-squares", "samples": 80, "dimension": 64}
TRIM = {"name": "norm-threshold", "trim": "byzantine", "step_size": 0.4}


def _scenario(downlink: str, sampled: int, **changes: Any) -> Scenario:
    fields = {"problem": SHAPE, "strategy": TRIM, "error_feedback": True, "compressor": "drive", "attack": "inner-product"}
    return small(**{**fields, "downlink": downlink, "sampled": sampled, "rounds": 4, **changes})


RUNS = [_scenario("replica", 0), _scenario("quantised", 0), _scenario("replica", 5), _scenario("dense", 5)]


@pytest.mark.parametrize("scenario", RUNS, ids=lambda one: f"{one.downlink.name}-{one.sampled}")
def test_a_resumed_run_gives_the_same_records(scenario: Scenario, tmp_path: Path) -> None:
    whole = run_scenario(scenario)
    assert [record["rejected"] for record in whole[1:]] == [{}] * 4
    assert all(record["kept"] + len(record["trimmed"]) == scenario.asked for record in whole[1:])

    def stop(record: RoundRecord) -> None:
        if record["round"] == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run_scenario(scenario, checkpoint=tmp_path, observe=stop)
    random.seed(3)  # another process's
    assert run_scenario(scenario, checkpoint=tmp_path) == whole


@pytest.mark.processes
@pytest.mark.usefixtures("ray")
def test_the_curve_does_not_depend_on_the_engine() -> None:
    for scenario, workers in [*itertools.product(RUNS[2:3], (1, 2)), (RUNS[1], 2)]:
        assert run_scenario(scenario, engine="ray", num_workers=workers) == run_scenario(scenario)


def test_a_run_counts_both_ways() -> None:
    dense, packed = run_scenario(_scenario("dense", 0)), run_scenario(_scenario("replica", 0))
    for plain, record in zip(dense[1:], packed[1:], strict=True):
        assert plain["bytes_sent"] == plain["bytes_dense"] == record["bytes_dense"] == 10 * (128 + 64 * 8)
        assert record["bytes_sent"] < plain["bytes_sent"] / 5
        assert (plain["forms"], record["forms"], record["resent"]) == ({}, {"replica": 10}, [])
        assert plain["bytes"] == record["bytes"]


def test_samples_follow_from_the_seed_and_leave_the_global_generator_alone() -> None:
    def asked(seed: int) -> list[list[int]]:
        strategy = {"name": "norm-threshold", "trim": 2}
        return [record["trimmed"] for record in run_scenario(_scenario("dense", 5, seed=seed, strategy=strategy))[1:]]

    random.seed(1)
    before = random.getstate()
    first = asked(0)
    assert random.getstate() == before
    random.seed(2)
    assert asked(0) == first
    with seeded_python(0, "sample", round_=1):
        one = random.sample(range(10), 5)
    with seeded_python(1, "sample", round_=1):
        assert random.sample(range(10), 5) != one


def test_a_trim_is_about_the_sample() -> None:
    fields = {"nodes": 100, "byzantine": 21, "problem": {**SHAPE, "samples": 100}}
    assert make_strategy(_scenario("dense", 0, nodes=100, byzantine=21)).trim == 21
    assert make_strategy(_scenario("dense", 10, nodes=100, byzantine=21)).trim == 3  # 2.1 are expected
    wider = {**TRIM, "trim": "byzantine+1"}
    strategy = make_strategy(_scenario("dense", 10, nodes=100, byzantine=21, strategy=wider))
    assert strategy.trim == 4 and strategy.min_train_nodes == 10
    for trim in (5, "byzantine+2"):
        with pytest.raises(ConfigurationError, match=r"strategy.trim must be below half of the 10 sampled nodes, got 5"):
            check_components(_scenario("dense", 10, **fields, strategy={**TRIM, "trim": trim}))
    with pytest.raises(ConfigurationError, match=r"sampled must be in \[0, nodes = 10\], got 11"):
        _scenario("dense", 11)


@pytest.mark.parametrize("sampled", [1, 7, 9, 49, 93])
def test_exactly_so_many_are_drawn(sampled: int) -> None:
    scenario = small(nodes=93, byzantine=0, sampled=sampled, strategy="fed-avg", rounds=1, problem={**SHAPE, "samples": 93})
    assert run_scenario(scenario)[1]["kept"] == sampled


def test_a_network_learns_from_a_packed_model() -> None:
    base = {"rounds": 12, "error_feedback": True, "byzantine": 0, "strategy": {"name": "fed-avg", "step_size": 1.0}}
    ends = {name: run_scenario(digits(**base, downlink=name))[-1]["loss"] for name in ("dense", "replica", "quantised")}
    assert ends["replica"] == pytest.approx(ends["dense"], rel=0.1)
    assert ends["quantised"] == pytest.approx(ends["dense"], rel=0.05)
