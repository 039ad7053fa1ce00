"""Inner products from the packed form, against the decompressed vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import Compressor, L1Sign, Payload, products
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng

every = pytest.mark.parametrize("compressor", ALL, ids=repr)


def _payloads(compressor: Compressor, d: int, dtype: torch.dtype = torch.float32) -> tuple[list[Payload], np.ndarray]:
    payloads = [compressor.compress(gaussian(d, dtype, seed) + 0.3, rng(seed)) for seed in range(7)]
    return payloads, torch.stack([compressor.decompress(p).double() for p in payloads]).numpy()


@every
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
@pytest.mark.parametrize("d", [1, 64, 1003])
def test_they_are_those_of_the_vectors(compressor: Compressor, dtype: torch.dtype, d: int) -> None:
    payloads, dense = _payloads(compressor, d, dtype)
    gram = compressor.inner_products(payloads)
    assert np.allclose(gram, dense @ dense.T, rtol=2e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-5 * d)
    assert np.array_equal(gram, gram.T)


@every
def test_blocks_of_rows_change_nothing(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads, _ = _payloads(compressor, 300)
    whole = compressor.inner_products(payloads)
    monkeypatch.setattr(products, "_BLOCK_BYTES", 2 * 300 * 4)
    assert np.allclose(compressor.inner_products(payloads), whole)


@every
@pytest.mark.parametrize("d", [640, 1003])
def test_a_sketch_is_unbiased(compressor: Compressor, d: int) -> None:
    payloads, _ = _payloads(compressor, d)
    runs = products.runs_of(d)
    sketches = [compressor.inner_products(payloads, np.array([run])) for run in range(runs)]
    whole = compressor.inner_products(payloads)
    assert np.allclose(np.mean(sketches, axis=0), whole, rtol=1e-5, atol=1e-5 * d)
    assert not np.allclose(sketches[0], whole)
    assert np.allclose(compressor.inner_products(payloads, np.arange(runs)), whole)


def test_no_payloads_give_an_empty_matrix() -> None:
    assert L1Sign().inner_products([]).shape == (0, 0)
