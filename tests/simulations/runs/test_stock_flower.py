"""The repository is a Flower App: stock `flwr run .` gives the curve of our own engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stock_flower import Backend, flwr_run
from flwr_robustcomp.simulations import run_scenario
from flwr_robustcomp.simulations.records.record import read_records
from tests.simulations.kit import ROOT, digits, nothing_left_running

pytestmark = pytest.mark.processes

_TRAFFIC = ("bytes", "bytes_sent", "bytes_dense", "forms", "resent")


def test_flwr_run_gives_the_curve_of_our_engines(tmp_path: Path) -> None:
    scenario = digits(
        rounds=2,
        seed=3,
        error_feedback=True,
        downlink="replica",
        problem={"name": "digits", "hidden": 8},
        strategy={"name": "norm-threshold", "trim": 3, "step_size": 1.0},
    )
    record = tmp_path / "rounds.jsonl"
    with nothing_left_running(tmp_path):
        flwr_run(
            ROOT,
            num_supernodes=scenario.nodes,
            home=tmp_path / "flwr",
            run_config={**scenario.to_run_config(), "record": str(record)},
            backend=Backend(init_num_cpus=2),
        ).check()
    stock, ours = list(read_records(record)), run_scenario(scenario)
    assert [line["round"] for line in stock] == [0, 1, 2]
    for line, expected in zip(stock, ours, strict=True):
        for name in ("loss", "accuracy"):
            assert line[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-6)
    for line, expected in zip(stock[1:], ours[1:], strict=True):
        assert (line["kept"], line["rejected"], line["skipped"]) == (7, {}, None)
        assert [line[name] for name in _TRAFFIC] == [expected[name] for name in _TRAFFIC]
        assert line["forms"] == {"replica": 10} and line["bytes_sent"] < line["bytes_dense"] / 3
        assert line["threshold"] == pytest.approx(expected["threshold"], rel=1e-6)
        assert len(line["trimmed"]) == 3  # by Flower's own node ids, which differ from run to run
