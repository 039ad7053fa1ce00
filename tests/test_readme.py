"""The README's change to an existing app does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp.simulations import InProcessGrid

README = Path(__file__).parents[1] / "README.md"


def _after() -> list[str]:
    """Return the code of each diff block as it stands after the change."""
    blocks = re.findall(r"```diff\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return ["\n".join(line[1:] for line in block.splitlines() if not line.startswith("-")) for block in blocks]


def _train(message: Message, context: Context) -> Message:
    """Somebody's training function: new weights, and a metric."""
    record = message.content["arrays"]
    assert isinstance(record, ArrayRecord)
    weights = {name: tensor - 0.25 for name, tensor in record.to_torch_state_dict().items()}
    metrics = MetricRecord({"num-examples": 8, "train-loss": 0.5})
    return Message(RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=message)


def test_the_change_is_at_most_ten_lines() -> None:
    text = "\n".join(re.findall(r"```diff\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert 0 < len(re.findall(r"^[+-]", text, flags=re.MULTILINE)) <= 10


def test_the_changed_app_trains() -> None:
    client, server = _after()
    scope: dict[str, Any] = {"ClientApp": ClientApp, "FedAvg": FedAvg}
    exec(client, scope)
    exec(server, scope)
    scope["app"].train()(_train)
    model = torch.nn.Linear(6, 3)
    with InProcessGrid(scope["app"], 20) as grid:
        scope["strategy"].fraction_evaluate = 0.0
        result = scope["strategy"].start(grid, ArrayRecord(model.state_dict()), num_rounds=2)
    after = result.arrays.to_torch_state_dict()
    assert torch.allclose(after["weight"], model.weight - 0.5, atol=1e-6)
    assert result.train_metrics_clientapp[2]["train-loss"] == pytest.approx(0.5)
    assert len(scope["strategy"].reports[-1].kept) == 9  # ten of twenty nodes sampled, one trimmed
