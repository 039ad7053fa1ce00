"""What docs/checkpoints.md takes from the reader's own app: a grid, initial arrays and an evaluation."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import CompressionMod, L1Sign, NormThreshold
from flwr_robustcomp.simulations import InProcessGrid

__all__ = ["L1Sign", "NormThreshold", "evaluate", "grid", "initial_arrays"]

_app = ClientApp(mods=[CompressionMod(L1Sign())])


@_app.train()
def _train(message: Message, context: Context) -> Message:
    arrays = message.content.array_records["arrays"].to_torch_state_dict()
    moved = ArrayRecord({name: tensor - 0.25 for name, tensor in arrays.items()})
    content = RecordDict({"arrays": moved, "metrics": MetricRecord({"num-examples": 8})})
    return Message(content, reply_to=message)


@_app.evaluate()
def _evaluate(message: Message, context: Context) -> Message:
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 8, "loss": 1.0})}), reply_to=message)


def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    return MetricRecord({"size": len(arrays)})


initial_arrays = ArrayRecord({"w": torch.zeros(6)})
grid = InProcessGrid(_app, 6)
