"""Low-rank factors where LAPACK's have other signs and last bits: the same product, and bytes that every server accepts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import LowRank
from flwr_robustcomp.compressors.low_rank import Method
from tests.compressors.samples import gaussian, rng
from tests.machines.doubles import with_other_factors

METHODS: tuple[Method, ...] = ("svd", "atomo", "power")


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (40, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_other_factors_have_the_same_product(
    method: Method, dtype: torch.dtype, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compressor = LowRank(3, method=method)
    x = gaussian(shape[0] * shape[1], dtype).reshape(shape)
    payload = compressor.compress(x, rng(5))
    here = compressor.decompress(payload).double()
    norm = compressor.norm(payload)
    calls = with_other_factors(monkeypatch)
    other = compressor.compress(x, rng(5))
    assert calls and other.body != payload.body
    compressor.check(other)  # does not raise: rounding is within what it allows
    there = compressor.decompress(other).double()
    # A gap between singular values amplifies roundings; these vectors have none below a hundredth.
    slack = (2000 if dtype.itemsize > 2 else 8) * torch.finfo(dtype).eps
    assert float(torch.linalg.vector_norm(here - there)) <= slack * float(torch.linalg.vector_norm(here))
    assert compressor.norm(other) == pytest.approx(norm, rel=slack)


@pytest.mark.parametrize("seed", range(5))
def test_the_draws_of_atomo_do_not_move_with_roundings(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = LowRank(2, method="atomo")
    x = gaussian(300, torch.float64, seed).reshape(20, 15)
    here = compressor.decompress(compressor.compress(x, rng(seed)))
    with_other_factors(monkeypatch)
    assert np.allclose(here, compressor.decompress(compressor.compress(x, rng(seed))), atol=1e-10)
