"""What a client leaves alone is not moved by it: frozen layers, rows of an embedding, adapters, tied weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.parts.compressors import TRAINING
from flwr_robustcomp import CompressionMod, NormThreshold, from_arrays, to_arrays
from flwr_robustcomp.compressors import Compressor, Identity, L1Sign, LowRank
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.simulations.runs.run import quiet_flower
from tests.apps import Model, app

NODES = 3
every = pytest.mark.parametrize("name", sorted(TRAINING))
spans = pytest.mark.parametrize("granularity", ["model", "array"])
feedback = pytest.mark.parametrize("error_feedback", [False, True], ids=["plain", "feedback"])

Loss = Callable[[Model], Tensor]


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _descend(model: Model, loss: Loss, trained: set[str], steps: int = 2) -> Model:
    """Take gradient steps with some arrays, as local training does; the others come back as they came."""
    model = {name: tensor.clone().requires_grad_(name in trained) for name, tensor in model.items()}
    for _ in range(steps):
        found = torch.autograd.grad(loss(model), [model[name] for name in sorted(trained)])
        for name, step in zip(sorted(trained), found, strict=True):
            model[name] = (model[name].detach() - 0.2 * step).requires_grad_()
    return {name: tensor.detach() for name, tensor in model.items()}


def _run(
    train: Callable[[Model], Model],
    start: Model,
    compressor: Compressor,
    granularity: Granularity,
    error_feedback: bool,
    rounds: int,
) -> Model:
    mod = CompressionMod(compressor, granularity=granularity, error_feedback=error_feedback)
    strategy = NormThreshold(compressor=compressor, granularity=granularity, fraction_evaluate=0.0, min_available_nodes=NODES)
    with quiet_flower():
        result = strategy.start(InProcessGrid(app(train, [mod]), NODES), to_arrays(start), num_rounds=rounds)
    return from_arrays(result.arrays)


def _compressor(name: str, granularity: str) -> Compressor:
    compressor = TRAINING[name]
    if compressor.wants_matrices and granularity == "model":
        pytest.skip("sees no matrix in a whole model")
    return compressor


IMAGES, LABELS = _draw(40, 12, seed=1), torch.arange(40) % 4


def _network(model: Model) -> Tensor:
    hidden = functional.relu(functional.linear(IMAGES, model["backbone.weight"], model["backbone.bias"]))
    return functional.cross_entropy(functional.linear(hidden, model["head.weight"], model["head.bias"]), LABELS)


@every
@spans
@feedback
def test_a_frozen_backbone_is_not_moved(name: str, granularity: Granularity, error_feedback: bool) -> None:
    start = {
        "backbone.weight": _draw(16, 12),
        "backbone.bias": _draw(16, seed=2),
        "head.weight": 0.1 * _draw(4, 16, seed=3),
        "head.bias": torch.zeros(4),
    }
    trained = {"head.weight", "head.bias"}
    after = _run(
        lambda model: _descend(model, _network, trained), start, _compressor(name, granularity), granularity, error_feedback, 3
    )
    for frozen in ("backbone.weight", "backbone.bias"):
        assert torch.equal(after[frozen], start[frozen])
    assert not torch.equal(after["head.weight"], start["head.weight"])


@every
@spans
@feedback
def test_rows_of_an_embedding_that_nobody_used_are_not_moved(name: str, granularity: Granularity, error_feedback: bool) -> None:
    start = {"embedding": _draw(200, 6), "out": 0.1 * _draw(2, 6, seed=1)}
    words = torch.tensor([3, 77])  # a hundredth of the rows

    def loss(model: Model) -> Tensor:
        return functional.cross_entropy(model["embedding"][words] @ model["out"].T, torch.tensor([0, 1]))

    after = _run(
        lambda model: _descend(model, loss, set(start)), start, _compressor(name, granularity), granularity, error_feedback, 3
    )
    unused = torch.ones(200, dtype=torch.bool)
    unused[words] = False
    assert torch.equal(after["embedding"][unused], start["embedding"][unused])


@every
@spans
@feedback
def test_adapters_alone_train_and_one_without_a_gradient_waits(
    name: str, granularity: Granularity, error_feedback: bool
) -> None:
    base = _draw(10, 12)
    start = {"lora_A": _draw(3, 12, seed=4), "lora_B": torch.zeros(10, 3)}
    target = _draw(40, 10, seed=5)

    def loss(model: Model) -> Tensor:
        return (IMAGES @ (base + model["lora_B"] @ model["lora_A"]).T - target).square().mean()

    def train(model: Model) -> Model:
        return _descend(model, loss, set(start), steps=1)

    first = _run(train, start, _compressor(name, granularity), granularity, error_feedback, 1)
    assert torch.equal(first["lora_A"], start["lora_A"])  # its gradient is zero where B is
    assert not torch.equal(first["lora_B"], start["lora_B"])


@every
@spans
def test_tied_weights_stay_together(name: str, granularity: Granularity) -> None:
    """Both names of a tied array train as one; what separates them on the server is what error feedback still holds."""
    start = {"embedding": 0.3 * _draw(8, 6), "head": 0.3 * _draw(8, 6)}
    words = torch.arange(8)

    def loss(model: Model) -> Tensor:
        return functional.cross_entropy(4 * model["head"][words] @ model["head"].T, (words + 1) % 8)

    def train(model: Model) -> Model:
        tied = _descend({"head": model["head"]}, loss, {"head"})["head"]  # loading both leaves the last
        return {"embedding": tied, "head": tied}

    compressor = _compressor(name, granularity)
    dense = _run(train, start, Identity(), granularity, False, 30)
    after = _run(train, start, compressor, granularity, True, 30)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    before, best, reached = (float(loss(model)) for model in (start, dense, after))
    if isinstance(compressor, L1Sign | LowRank) or name == "drive":
        assert reached < before - 0.5 * (before - best)
        moved = float((dense["head"] - start["head"]).norm())
        assert float((after["embedding"] - after["head"]).norm()) < 0.5 * moved


def test_partial_replies_need_zeros_that_stay_zero() -> None:
    with pytest.raises(ConfigurationError, match="partial must be False with L1Sign"):
        CompressionMod(L1Sign(plus_zero=True), partial=True)
    assert CompressionMod(L1Sign(), partial=True).partial
