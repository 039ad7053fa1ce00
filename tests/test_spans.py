"""The measured delta: its definition, and that a row's number is its own."""

from __future__ import annotations

import math

import pytest
import torch

from flwr_robustcomp.compressors import Compressor, L1Sign, TopK
from flwr_robustcomp.spans import measured_deltas
from tests.compressors.samples import gaussian


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("compressor", [L1Sign(), TopK(ratio=0.1)], ids=repr)
def test_it_is_what_definition_4_bounds(compressor: Compressor, dtype: torch.dtype) -> None:
    x = gaussian(1000, dtype)
    residual = x - compressor.decompress(compressor.compress(x))
    (found,) = measured_deltas(x[None], residual[None])
    assert found == pytest.approx(compressor.measured_delta(x), abs=1e-6)


@pytest.mark.parametrize("d", [1, 7, 1000, 20_011])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_rows_number_does_not_depend_on_the_others(d: int, dtype: torch.dtype) -> None:
    rows, residuals = gaussian(9 * d, dtype).reshape(9, d), gaussian(9 * d, dtype, seed=1).reshape(9, d)
    alone = [measured_deltas(p[None], r[None])[0] for p, r in zip(rows, residuals, strict=True)]
    assert measured_deltas(rows, residuals) == alone


def test_zero_vectors() -> None:
    zero, one = torch.zeros(2, 3), torch.ones(1, 3)
    kept, lost = measured_deltas(zero, torch.cat([zero[:1], one]))
    assert kept == 1.0 and lost == -math.inf
