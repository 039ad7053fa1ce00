"""Inner products where the library's differ in the last bits: symmetric by construction, and near those of the vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import Compressor, products, sparse_products
from flwr_robustcomp.compressors.bits import accumulate_signs, pack_bits
from tests.compressors.samples import ALL, gaussian, rng
from tests.machines.doubles import with_other_products

every = pytest.mark.parametrize("compressor", ALL, ids=repr)


def test_the_double_has_two_triangles_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    with_other_products(monkeypatch)
    x = gaussian(5 * 64).reshape(5, 64)
    found = products._products(x, x)
    assert not np.array_equal(found, found.T)
    assert np.allclose(found, found.T, rtol=1e-13)


@every
@pytest.mark.parametrize("d", [64, 1003])
def test_gram_matrices_are_symmetric_whatever_the_kernels_add_first(
    compressor: Compressor, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = [compressor.compress(gaussian(d, seed=seed) + 0.3, rng(seed)) for seed in range(7)]
    whole = compressor.inner_products(payloads)
    monkeypatch.setattr(products, "_BLOCK_BYTES", 3 * d * 4)  # so that there are blocks beside the diagonal
    monkeypatch.setattr(sparse_products, "_GROUP_ENTRIES", d)
    with_other_products(monkeypatch)
    gram = compressor.inner_products(payloads)
    lengths = np.sqrt(np.diag(whole))
    assert np.array_equal(gram, gram.T)
    assert (np.abs(gram - whole) <= 1e-13 * np.outer(lengths, lengths)).all()


@pytest.mark.parametrize("share", [0.0, 2.0], ids=["dense", "sparse"])
def test_both_forms_of_a_block_are_symmetric(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = with_other_products(monkeypatch)
    entries = [np.sort(rng(seed).permutation(500)[:60]).astype(np.int64) for seed in range(6)]
    values = [rng(seed + 9).standard_normal(60) for seed in range(6)]
    payloads = list(range(6))
    of = [type("P", (), {"size": 500, "number": i})() for i in payloads]

    def entries_of(payload: Any) -> Any:
        return entries[payload.number], values[payload.number]

    gram = sparse_products.sparse_products(entries_of, of, [60] * 6, None, dense=share)
    assert calls and np.array_equal(gram, gram.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [3, 200, 300])
def test_a_sum_of_signs_in_another_order_is_within_its_tolerance(m: int, dtype: type[np.floating]) -> None:
    # The product of weights and bits adds m terms in the kernel's order: each order is off by at most m roundings of
    # sum |w_i|, and the term that is taken off by as many.
    d = 3000
    signs = rng(1).random((m, d)) < 0.5
    weights = rng(2).random(m)
    exact = np.array([weights]) @ (2.0 * signs - 1.0)
    for order in (np.arange(m), np.arange(m)[::-1], rng(3).permutation(m)):
        out = np.zeros(d, dtype)
        accumulate_signs(out, [pack_bits(signs[i]) for i in order], weights[order])
        assert np.abs(out - exact).max() <= 3 * m * np.finfo(dtype).eps * weights.sum()


def test_the_sum_of_every_compressor_in_another_order_is_within_rounding() -> None:
    for compressor in ALL:
        payloads = [compressor.compress(gaussian(1003, seed=seed), rng(seed)) for seed in range(9)]
        weights = rng(4).random(9).tolist()
        sums = []
        for order in (range(9), range(8, -1, -1)):
            out = torch.zeros(1003, dtype=torch.float64)
            compressor.accumulate(out, [payloads[i] for i in order], [weights[i] for i in order])
            sums.append(out)
        scale = float(sums[0].abs().max()) + 1e-300
        assert torch.allclose(sums[0], sums[1], rtol=0, atol=1e-6 * scale), compressor
