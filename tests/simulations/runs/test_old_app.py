"""An app in Flower's old API under stock `flwr run`, with its replies packed: with its own strategy, and with one of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.stock_flower import Backend, LocalFlower
from tests.simulations.kit import ROOT, nothing_left_running

pytestmark = pytest.mark.processes

APP = ROOT / "tests" / "old_app"
ROUNDS = 2


def test_an_old_app_runs_with_its_own_strategy_and_with_ours(tmp_path: Path) -> None:
    models, logs = {}, {}
    with nothing_left_running(tmp_path), LocalFlower(home=tmp_path / "flwr") as flower:
        for how in ("decompressed", "ours"):
            out = tmp_path / f"{how}.jsonl"
            run = flower.run(
                APP,
                num_supernodes=4,
                run_config={"how": how, "rounds": ROUNDS, "out": str(out)},
                backend=Backend(init_num_cpus=1),
                timeout=300.0,
            ).check()
            lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
            assert [line["round"] for line in lines] == list(range(ROUNDS + 1))
            models[how], logs[how] = [np.array(line["model"]) for line in lines], run.log

    start = np.linspace(-0.9, 0.9, 64, dtype=np.float32)
    # Targets 0, 1, 4, 9: the mean of all is 3.5, and that of all but the farthest 5/3.
    for how, centre in (("decompressed", 3.5), ("ours", 5 / 3)):
        assert np.array_equal(models[how][0], start)
        assert np.abs(models[how][-1] - centre).mean() < np.abs(start - centre).mean() / 3
    for how, line in (("decompressed", "kept 4, trimmed 0, rejected 0"), ("ours", "kept 3, trimmed 1 ")):
        assert logs[how].count(f"aggregate_train: {line}") == ROUNDS
        # A scale and 64 signs from each of four nodes.
        assert [int(n) for n in re.findall(r"(\d+) bytes received", logs[how])] == [4 * (8 + 8)] * ROUNDS
    assert "loss, distributed" in logs["ours"]  # evaluation came through too
