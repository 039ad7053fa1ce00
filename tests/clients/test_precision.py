"""Half precision on the client: nothing that the model's dtype drops is lost to error feedback, or mistaken for packed bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import Message

from flwr_robustcomp import wire
from flwr_robustcomp.clients import CompressionMod, SignFlip
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.compressors import QSGD, Compressor, Identity, L1Sign, RandomK, TopK, working_dtype
from tests.apps import Model, app, flat, minus, node, replied, request
from tests.compressors.samples import DTYPE_LIST

NAMES = {"model": [wire.MODEL_ARRAY], "array": ["weight", "bias"]}
SHAPES: dict[str, list[tuple[int, ...]]] = {"model": [(3, 4), (5,)], "array": []}
"""Of the arrays in one packed vector."""


def _model(dtype: torch.dtype) -> Model:
    draw = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, 4, generator=draw), torch.randn(5, generator=draw)
    return {"weight": weight.to(dtype), "bias": bias.to(dtype), "running_mean": torch.ones(2).to(dtype)}


def _sent(reply: Message, granularity: str) -> torch.Tensor:
    packed = [wire.unpack_trusted(replied(reply)[name], SHAPES[granularity]) for name in NAMES[granularity]]
    return torch.cat([compressor.decompress(payload).flatten().double() for compressor, payload in packed])


@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), TopK(k=2), RandomK(k=3), QSGD(2)], ids=repr)
@pytest.mark.parametrize("granularity", NAMES)
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
def test_sent_plus_residual_is_exact_in_working_precision(dtype: torch.dtype, granularity: Any, compressor: Compressor) -> None:
    step = {name: tensor / 64 for name, tensor in _model(dtype).items()}
    mod = CompressionMod(compressor, error_feedback=True, granularity=granularity, reply="update")
    client, context, x = app(lambda w: step, [mod]), node(), flat(step).double()
    old, work = torch.zeros_like(x), working_dtype(dtype)
    for round_ in range(1, 5):
        answer = client(request(_model(dtype), round_=round_), context)
        new = RESIDUAL.load(context.state, len(x), work)
        assert new is not None
        # Two additions of numbers below 2, however coarse the model's own dtype is.
        assert float((_sent(answer, granularity) + new.double() - x - old).abs().max()) <= 8 * torch.finfo(work).eps
        old = new.double()


@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
@pytest.mark.parametrize("order", ["restricted", "arbitrary"])
@pytest.mark.parametrize("compressor", [Identity(), L1Sign()], ids=repr)
@pytest.mark.parametrize("granularity", NAMES)
def test_an_attack_knows_dense_from_packed(granularity: Any, compressor: Compressor, order: str, dtype: torch.dtype) -> None:
    if order == "arbitrary" and granularity == "array" and isinstance(compressor, Identity) and dtype == torch.bfloat16:
        return  # the one case in which the two look alike; see `update_attack._packed_names`
    mod = CompressionMod(compressor, granularity=granularity)
    step = {"weight": torch.ones(3, 4).to(dtype), "bias": -torch.ones(5).to(dtype), "running_mean": torch.ones(2).to(dtype)}
    mods: list[Any] = [mod, SignFlip()] if order == "restricted" else [SignFlip(), mod]
    model = {name: torch.zeros_like(tensor) for name, tensor in step.items()}
    flipped = app(lambda w: minus(w, step), mods)(request(model), node())
    assert torch.equal(_sent(flipped, granularity), -flat(step).double())
    assert wire.read_dense(replied(flipped)["running_mean"]).tolist() == [-1.0, -1.0]  # the client's own values
