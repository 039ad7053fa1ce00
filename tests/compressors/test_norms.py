"""Norms of packed vectors so short or so long that their squares are no doubles."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import Compressor, vector_norm
from tests.compressors.samples import ALL, gaussian, rng

NORMAL = torch.finfo(torch.float64).smallest_normal


@pytest.mark.parametrize("compressor", ALL, ids=repr)
@given(exponent=st.integers(-300, 150), seed=st.integers(0, 99), shape=st.sampled_from([(40,), (5, 8)]))
def test_the_norm_is_that_of_the_decompressed_vector(
    compressor: Compressor, exponent: int, seed: int, shape: tuple[int, ...]
) -> None:
    x = gaussian(40, torch.float64, seed).reshape(shape) * 10.0**exponent
    payload = compressor.compress(x, rng(seed))
    for order in (1, 2, math.inf):
        norm = vector_norm(compressor.decompress(payload), order)
        if norm >= NORMAL:
            assert compressor.norm(payload, order) == pytest.approx(norm, rel=1e-6, abs=0)
        low, high = compressor.norm_bounds(payload, order)
        assert low <= vector_norm(x, order) * (1 + 1e-6) and vector_norm(x, order) <= high * (1 + 1e-6)


@pytest.mark.parametrize("compressor", ALL, ids=repr)
@pytest.mark.parametrize("exponent", [-307, -160, 160, 300, 306])
def test_bounds_never_raise(compressor: Compressor, exponent: int) -> None:
    x = gaussian(40, torch.float64).clamp(-1, 1).reshape(5, 8) * 10.0**exponent
    payload = compressor.compress(x, rng())
    for order in (1, 2, math.inf):
        low, high = compressor.norm_bounds(payload, order)
        assert not math.isnan(low) and not math.isnan(high)
