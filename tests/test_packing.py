"""The packing that client and server share: what becomes a vector, through which compressor, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import CompressionMod, NormThreshold, from_arrays, to_arrays, wire
from flwr_robustcomp.compressors import (
    QSGD,
    ByName,
    ByShape,
    BySize,
    Choice,
    Compressor,
    Drive,
    Identity,
    L1Sign,
    LowRank,
    NonZeros,
    RandomK,
    TopK,
)
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.simulations import InProcessGrid
from tests.apps import Model, app, flat, gaussian_model
from tests.strategies.rounds import SAMPLING, answers, updates

MODEL = {**gaussian_model(0), "running_mean": torch.zeros(3), "steps": torch.tensor(4)}
CHOICE = ByShape(matrices=LowRank(1), vectors=Drive())


def test_one_span_for_the_model_or_one_for_each_array() -> None:
    whole, each = Packing(L1Sign()), Packing(L1Sign(), "array")
    layout = whole.layout(MODEL)
    (span,) = whole.spans(layout)
    assert (span.name, span.shape, span.start, span.stop) == (None, (layout.dim,), 0, layout.dim)
    assert [(s.name, s.start, s.stop) for s in each.spans(layout)] == [(s.name, s.start, s.stop) for s in layout.compressed]
    assert all(span.compressor == NonZeros(L1Sign(), layout.shapes) for span in each.spans(layout))


def test_spans_of_another_round_draw_anew() -> None:
    packing = Packing(RandomK(k=1), "array")
    layout = packing.layout(MODEL)
    assert packing.spans(layout, 1) is packing.spans(layout, 1)
    drive = Packing(Drive())
    assert drive.spans(layout, 1) != drive.spans(layout, 2)


def test_a_compressor_of_matrices_sends_the_others_as_they_are() -> None:
    packing = Packing(LowRank(1), "array")
    layout = packing.layout(MODEL)
    assert packing.choice == ByShape(LowRank(1), Identity()) and packing.compressors == (LowRank(1), Identity())
    for slot, span in zip(layout.compressed, packing.spans(layout), strict=True):
        assert isinstance(span.compressor, LowRank if len(slot.shape) > 1 else Identity)


def test_a_packing_stands_for_all_three() -> None:
    packing = Packing(CHOICE, "array", ("head.*",))
    assert CompressionMod(packing).packing is packing and NormThreshold(compressor=packing).packing is packing
    assert Packing.of(CHOICE, "array", ["head.*"]) == packing
    for name, value in (("granularity", "model"), ("granularity", "array"), ("uncompressed", ())):
        option: Any = {name: value}
        with pytest.raises(ConfigurationError, match=f"{name} must be left out beside a Packing, got"):
            NormThreshold(compressor=packing, **option)


def _any(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Packing("drive"), "compressor must be a Compressor or a Choice, got 'drive'"),  # type: ignore[arg-type]
        (
            lambda: Packing(Drive(), uncompressed=_any("*.bias")),
            "uncompressed must be a sequence of shell patterns, got '\\*.bias'",
        ),
        (lambda: Packing(Drive(), uncompressed=_any([1])), "uncompressed must be a sequence of shell patterns"),
        (lambda: Packing(Drive(), "layer"), "granularity must be one of model, array, got 'layer'"),  # type: ignore[arg-type]
        (lambda: Packing(CHOICE), "granularity must be \"array\" for 'by-shape', which sees no array in a whole model"),
        (lambda: Packing(LowRank(2)), "granularity must be \"array\" for 'low-rank'"),
        (lambda: _checked(Packing(LowRank(9), "array")), r"array '.*': rank must be in \[1, "),
        (
            lambda: _checked(Packing(LowRank(1), "array"), {"b": torch.ones(3)}),
            r"at least one matrix for 'low-rank', got \[\(3,\)\]",
        ),
        (lambda: _checked(Packing(TopK(k=10_000))), "k must be in"),
        (
            lambda: NormThreshold(compressor=Packing(BySize(L1Sign(), L1Sign()), "array"), trim=1, norm="up"),  # type: ignore[arg-type]
            "norm must be one of",
        ),
    ],
)
def test_bad_configurations(make: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


def test_a_scalar_is_a_matrix_of_one_entry() -> None:
    packing = Packing(ByShape(matrices=Drive(), vectors=LowRank(1)), "array")
    _checked(packing, {"s": torch.tensor(2.0), "w": torch.ones(2, 3)})
    with pytest.raises(ConfigurationError, match=r"array 's': rank must be in \[1, 1\]"):
        _checked(Packing(ByShape(Drive(), LowRank(2)), "array"), {"s": torch.tensor(2.0), "w": torch.ones(2, 3)})


def _checked(packing: Packing, model: dict[str, torch.Tensor] = MODEL) -> None:
    packing.check(packing.layout(model))


def _moved(model: Model, step: Model) -> Model:
    return {name: tensor - step[name] if name in step else tensor for name, tensor in model.items()}


_COMPRESSORS = st.sampled_from([Drive(), Identity(), L1Sign(), QSGD(levels=4), TopK(ratio=0.4), LowRank(1), RandomK(ratio=0.5)])


def _choices(branches: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(ByShape, branches, branches),
        st.builds(BySize, branches, branches, st.integers(1, 20)),
        st.builds(ByName, st.sampled_from(["0.*", "*bias", "nothing"]), branches, branches),
    )


@given(choice=st.recursive(_COMPRESSORS, _choices, max_leaves=4), seed=st.integers(0, 3))
def test_whatever_is_chosen_the_server_reads_what_the_clients_sent(choice: Compressor | Choice, seed: int) -> None:
    packing = Packing(choice, "array")
    layout = packing.layout(MODEL)
    step = torch.randn(layout.dim, generator=torch.Generator().manual_seed(seed))
    strategy = NormThreshold(compressor=packing, **SAMPLING, min_train_nodes=2, min_available_nodes=2)
    client = app(lambda w: _moved(w, layout.split(step)), [CompressionMod(packing, seed=seed)])
    with InProcessGrid(client, 2) as grid:
        result = strategy.start(grid, to_arrays(MODEL), num_rounds=1)
    report = strategy.reports[-1]
    assert not report.rejected and report.skipped is None
    moved = flat(from_arrays(result.arrays)) - flat(MODEL)
    for span, slot in zip(packing.spans(layout), layout.compressed, strict=True):
        exact = isinstance(span.compressor, Identity) or (isinstance(span.compressor, LowRank) and len(slot.shape) == 1)
        if exact:
            assert torch.allclose(moved[span.start : span.stop], -step[span.start : span.stop], atol=1e-5)


def test_each_array_travels_under_the_name_of_its_compressor() -> None:
    sent: dict[str, str] = {}

    def listen(message: Any, context: Any, call_next: Any) -> Any:
        answer = call_next(message, context)
        sent.update({name: array.stype for record in answer.content.array_records.values() for name, array in record.items()})
        return answer

    packing = Packing(CHOICE, "array")
    strategy = NormThreshold(compressor=packing, **SAMPLING, min_train_nodes=1, min_available_nodes=1)
    layout = packing.layout(MODEL)
    with InProcessGrid(
        app(lambda w: _moved(w, layout.split(torch.ones(layout.dim))), [listen, CompressionMod(packing)]), 1
    ) as grid:
        strategy.start(grid, to_arrays(MODEL), num_rounds=1)
    for slot in layout.compressed:
        assert sent[slot.name] == wire.stype_of(LowRank(1) if len(slot.shape) > 1 else Drive())


def test_an_array_that_is_packed_on_one_side_alone_is_told_as_such() -> None:
    strategy = NormThreshold(compressor=Packing(L1Sign(), "array", ("bias",)), **SAMPLING)
    replies = answers(strategy, updates(2), Packing(L1Sign(), "array", ()))
    strategy.aggregate_train(1, replies)
    (first, _) = strategy.reports[-1].rejected
    assert "uncompressed must be equal on both sides" in first.detail


def test_the_mod_says_what_it_will_be() -> None:
    assert repr(CompressionMod(Packing(Drive(), "array"), error_feedback=True)).startswith("CompressionMod(Drive(")
