"""A round of a strategy in one call: packed replies in, new model out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from flwr_robustcomp import from_arrays, to_arrays, wire
from flwr_robustcomp.compressors import Choice, Compressor
from flwr_robustcomp.flower import addressed, envelope
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Granularity, Packing
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.spans import compress_spans
from flwr_robustcomp.strategies import TrustedRoot
from tests.apps import Model, gaussian_model

MODEL = gaussian_model(0)


class Sampling(TypedDict):
    """Options of `FedAvg` that hold for most rounds here; a test gives the others."""

    fraction_evaluate: float


SAMPLING: Sampling = {"fraction_evaluate": 0.0}


def updates(count: int, model: Model = MODEL, seed: int = 0) -> list[Tensor]:
    """Return updates of different sizes, one for each node."""
    rng = np.random.default_rng(seed)
    d = Layout.of(model).dim
    return [torch.from_numpy(rng.standard_normal(d) * rng.uniform(0.5, 2)).float() for _ in range(count)]


def ask(strategy: Strategy, nodes: int, model: Model = MODEL, round_: int = 1) -> list[Message]:
    """Return the requests of a round, by ascending node id."""
    grid = InProcessGrid(ClientApp(), nodes)
    owners: tuple[Any, ...] = (strategy, getattr(strategy, "strategy", None))
    for owner in owners:
        if owner is not None:
            owner.min_train_nodes = owner.min_available_nodes = nodes
    messages = list(strategy.configure_train(round_, to_arrays(model), ConfigRecord(), grid))
    return sorted(messages, key=lambda message: message.metadata.dst_node_id)


def answer(
    message: Message,
    x: Tensor,
    compressor: Compressor | Choice | Packing,
    *,
    granularity: Granularity | None = None,
    metrics: dict[str, Any] | None = None,
    norms: dict[str, float] | None = None,
    model: Model = MODEL,
) -> Message:
    """Return an honest reply with the update x."""
    packing = Packing.of(compressor, granularity)
    layout = packing.layout(model)
    spans = packing.spans(layout, round_=1)
    arrays = ArrayRecord()
    rng = np.random.default_rng(message.metadata.dst_node_id)
    for span, payload in zip(spans, compress_spans(x, spans, rng), strict=True):
        arrays[span.name or wire.MODEL_ARRAY] = wire.pack(payload, span.compressor)
    for slot in layout.uncompressed:
        arrays[slot.name] = wire.to_array(model[slot.name])
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics or {"num-examples": 3})})
    if norms is not None:
        content[wire.NORM_RECORD] = ConfigRecord({**norms})
    return Message(content, reply_to=addressed(message.content, envelope(message, "id")))


def answers(
    strategy: Strategy, xs: Sequence[Tensor], compressor: Compressor | Choice | Packing, **options: Any
) -> list[Message]:
    messages = ask(strategy, len(xs), model=options.get("model", MODEL))
    return [answer(message, x, compressor, **options) for message, x in zip(messages, xs, strict=True)]


def q(x: Tensor, compressor: Compressor, node: int) -> Tensor:
    """Return Q(x) of the node in the given place, as `answer` draws it."""
    compressor = compressor.for_round(1)
    return compressor.decompress(compressor.compress(x, np.random.default_rng(1000 + node)))


def moved(strategy: Strategy, replies: Sequence[Message], model: Model = MODEL) -> Tensor:
    """Return w_t - w_{t+1}, shape (d,)."""
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    layout = Layout.of(model)
    return layout.flatten(model) - layout.flatten(from_arrays(arrays))


def root_of(x: Tensor, model: Model = MODEL, share: float = 0.0) -> TrustedRoot:
    """Return a root whose update is x; the loss of a model is half its squared distance to the root's."""
    layout = Layout.of(model)
    wanted = layout.flatten(model).double() - x.double()

    def train(server_round: int, arrays: ArrayRecord) -> dict[str, Tensor]:
        own = from_arrays(arrays)
        return layout.join(layout.flatten(own) - x, {slot.name: own[slot.name] for slot in layout.uncompressed})

    def loss(server_round: int, arrays: ArrayRecord) -> float:
        return float((layout.flatten(from_arrays(arrays)).double() - wanted).square().sum() / 2)

    return TrustedRoot(train, loss, share=share)
