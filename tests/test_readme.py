"""The README's change to an existing app does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict

from flwr_robustcomp.simulations import InProcessGrid
from tests.test_quickstart import difference

README = Path(__file__).parents[1] / "README.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def _train(message: Message, context: Context) -> Message:
    """Somebody's training function: new weights, and a metric."""
    record = message.content["arrays"]
    assert isinstance(record, ArrayRecord)
    weights = {name: tensor - 0.25 for name, tensor in record.to_torch_state_dict().items()}
    metrics = MetricRecord({"num-examples": 8, "train-loss": 0.5})
    return Message(RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=message)


def test_the_change_is_the_one_between_the_examples() -> None:
    shown = {}
    for block in _blocks("diff"):
        name, *lines = block.splitlines()
        shown[name.removeprefix(" # ")] = lines
    assert shown == difference()


def test_the_same_in_code_trains() -> None:
    (code,) = _blocks("python")
    scope: dict[str, Any] = {}
    exec(code, scope)
    scope["app"].train()(_train)
    model = torch.nn.Linear(6, 3)
    with InProcessGrid(scope["app"], 20) as grid:
        scope["strategy"].fraction_evaluate = 0.0
        result = scope["strategy"].start(grid, ArrayRecord(model.state_dict()), num_rounds=2)
    after = result.arrays.to_torch_state_dict()
    moved = float((model.weight.detach() - after["weight"]).mean())
    assert moved == pytest.approx(0.5, abs=0.2)  # one bit a coordinate of two equal steps of 0.25
    assert result.train_metrics_clientapp[2]["train-loss"] == pytest.approx(0.5)
    assert len(scope["strategy"].reports[-1].kept) >= 16  # of twenty: a fifth may be dropped
