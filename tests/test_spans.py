"""The measured delta: its definition, by projection or by the error itself, and that a row's number is its own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from flwr_robustcomp.compressors import (
    QSGD,
    Compressor,
    Identity,
    L1Sign,
    Payload,
    RandomK,
    Sign,
    SparseTernary,
    TopK,
    working_dtype,
)
from flwr_robustcomp.spans import Span, compress_rows, decompress_rows, measured_deltas
from tests.compressors.samples import gaussian, rng

SOME = [
    Identity(),
    L1Sign(),
    Sign(),
    QSGD(),
    TopK(ratio=0.1),
    TopK(ratio=0.1, values=L1Sign()),
    TopK(ratio=0.1, values=QSGD()),
    RandomK(ratio=0.1),
    RandomK(ratio=0.1, unbiased=True),
    SparseTernary(ratio=0.1),
]


def _packed(rows: Tensor, compressor: Compressor, cuts: tuple[int, ...] = ()) -> tuple[list[tuple[Payload, ...]], list[Span]]:
    ends = [0, *cuts, rows.shape[1]]
    spans = [Span(None, (b - a,), rows.dtype, a, b, compressor) for a, b in itertools.pairwise(ends)]
    return compress_rows(rows, spans, [rng(i) for i in range(len(rows))]), spans


@pytest.mark.parametrize("cuts", [(), (400, 650)], ids=["model", "array"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("compressor", SOME, ids=repr)
def test_it_is_what_definition_4_bounds(compressor: Compressor, dtype: torch.dtype, cuts: tuple[int, ...]) -> None:
    x = gaussian(3000, dtype).reshape(3, 1000)
    payloads, spans = _packed(x, compressor, cuts)
    rows = x.to(working_dtype(dtype))
    residuals = rows - decompress_rows(payloads, spans, rows.dtype)
    wanted = (1 - residuals.double().square().sum(dim=1) / rows.double().square().sum(dim=1)).tolist()
    assert measured_deltas(rows, payloads, spans) == pytest.approx(wanted, abs=1e-6)
    assert measured_deltas(rows, payloads, spans, residuals) == pytest.approx(wanted, abs=1e-6)


def test_a_compressor_that_projects_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = gaussian(1000).reshape(1, 1000)
    payloads, spans = _packed(rows, L1Sign())
    monkeypatch.delattr(L1Sign, "decode")
    monkeypatch.delattr(L1Sign, "decompress_rows")
    assert measured_deltas(rows, payloads, spans) == pytest.approx([2 / math.pi], abs=0.02)


@pytest.mark.parametrize("d", [1, 7, 1000, 20_011])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("compressor", [L1Sign(), Sign()], ids=repr)
def test_a_rows_number_does_not_depend_on_the_others(compressor: Compressor, d: int, dtype: torch.dtype) -> None:
    rows = gaussian(9 * d, dtype).reshape(9, d)
    payloads, spans = _packed(rows, compressor)
    alone = [measured_deltas(p[None], [q], spans)[0] for p, q in zip(rows, payloads, strict=True)]
    assert measured_deltas(rows, payloads, spans) == alone


def test_zero_vectors() -> None:
    zero = torch.zeros(1, 3)
    assert measured_deltas(zero, *_packed(zero, L1Sign())) == [1.0]
    assert measured_deltas(zero, *_packed(zero, Sign())) == [-math.inf]


@pytest.mark.parametrize("compressor", [L1Sign(), TopK(ratio=1.0), QSGD()], ids=repr)
def test_large_and_small_entries(compressor: Compressor) -> None:
    for factor in (1e-30, 1e30):  # whose squares single precision cannot hold
        rows = gaussian(300).reshape(1, 300) * factor
        (found,) = measured_deltas(rows, *_packed(rows, compressor))
        assert found == pytest.approx(compressor.measured_delta(rows[0], rng(0)), abs=1e-6)


def test_squares_that_overflow_are_not_told() -> None:
    rows = gaussian(300, torch.float64).reshape(1, 300) * 1e160
    payloads, spans = _packed(rows, L1Sign())
    assert not math.isfinite(measured_deltas(rows, payloads, spans)[0])
