"""Nodes, messages and training functions as a user would write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from torch import Tensor

from flwr_robustcomp import from_arrays, to_arrays
from flwr_robustcomp.flower import addressed, envelope
from flwr_robustcomp.layout import Layout

Model = dict[str, Tensor]


def request(model: Model, *, node: int = 7, round_: int = 1, kind: str = "train") -> Message:
    """Return the server's message as a node receives it."""
    content = RecordDict({"arrays": to_arrays(model), "config": ConfigRecord({"server-round": round_})})
    message = Message(content, node, kind)
    return addressed(content, envelope(message, f"{kind}-{node}-{round_}"))


def node(partition: int = 0, **run_config: Any) -> Context:
    return Context(1, 7, {"partition-id": partition}, RecordDict(), run_config)


def app(train: Callable[[Model], Model], mods: Sequence[Mod], metrics: dict[str, Any] | None = None) -> ClientApp:
    """Return somebody's ClientApp around a function from the model to what is replied."""
    client = ClientApp(mods=list(mods))

    @client.train()
    def _train(message: Message, context: Context) -> Message:
        record = message.content["arrays"]
        assert isinstance(record, ArrayRecord)
        arrays = to_arrays(train(from_arrays(record)))
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics or {"num-examples": 3})})
        return Message(content, reply_to=message)

    @client.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 3, "loss": 0.5})}), reply_to=message)

    return client


def replied(reply: Message) -> ArrayRecord:
    record = reply.content["arrays"]
    assert isinstance(record, ArrayRecord)
    return record


def flat(model: Model, **options: Any) -> Tensor:
    return Layout.of(model, **options).flatten(model)


def gaussian_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(4, 5, generator=generator).to(dtype),
        "bias": torch.randn(3, generator=generator).to(dtype),
    }


def minus(model: Model, step: Model) -> Model:
    return {name: model[name] - step[name] for name in model}
