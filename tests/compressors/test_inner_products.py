"""Inner products from the packed form, against the decompressed vectors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import (
    Compressor,
    Drive,
    L1Sign,
    Payload,
    TopK,
    products,
    sparse_products,
)
from flwr_robustcomp.compressors.bits import hamming_distances, pack_bits, ternary_products
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng

every = pytest.mark.parametrize("compressor", ALL, ids=repr)


def _payloads(compressor: Compressor, d: int, dtype: torch.dtype = torch.float32) -> tuple[list[Payload], np.ndarray]:
    payloads = [compressor.compress(gaussian(d, dtype, seed) + 0.3, rng(seed)) for seed in range(7)]
    return payloads, torch.stack([compressor.decompress(p).double() for p in payloads]).numpy()


@every
def test_they_are_those_of_the_vectors(compressor: Compressor) -> None:
    for d, dtype in itertools.product([1, 64, 1003], DTYPE_LIST):
        payloads, dense = _payloads(compressor, d, dtype)
        gram = compressor.inner_products(payloads)
        lengths = np.linalg.norm(dense, axis=1)
        # Half types: those that are added in the rotated basis are multiplied there, before they are rounded to the dtype.
        slack = 4 * torch.finfo(dtype).eps if dtype.itemsize == 2 else 1e-6
        assert (np.abs(gram - dense @ dense.T) <= slack * np.outer(lengths, lengths) + 1e-12).all()
        assert np.array_equal(gram, gram.T)


@pytest.mark.parametrize("compressor", [Drive(), Drive(unbiased_scale=True), Drive(rotate=False)], ids=repr)
@pytest.mark.parametrize("d", [4096, 9_000, 3 * 4096 + 64 + 5, 140_000])
def test_signs_with_a_scale_for_each_of_many_blocks(compressor: Compressor, d: int) -> None:
    payloads, _ = _payloads(compressor, d)
    dense = torch.stack([compressor.columns(payloads).rows([p])[0].double() for p in payloads]).numpy()
    lengths = np.linalg.norm(dense, axis=1)
    gram = compressor.inner_products(payloads)
    assert (np.abs(gram - dense @ dense.T) <= 1e-9 * np.outer(lengths, lengths)).all()
    assert np.array_equal(gram, gram.T)


@every
def test_blocks_of_rows_change_nothing(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads, _ = _payloads(compressor, 300)
    whole = compressor.inner_products(payloads)
    monkeypatch.setattr(products, "_BLOCK_BYTES", 2 * 300 * 4)
    monkeypatch.setattr(sparse_products, "_BLOCK_BYTES", 1)  # the least number of columns
    monkeypatch.setattr(sparse_products, "_GROUP_ENTRIES", 200)  # one vector, or a few
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


PACKED = [one for one in ALL if type(one).inner_products is not Compressor.inner_products]


@pytest.mark.parametrize("compressor", PACKED, ids=repr)
def test_no_vector_is_decompressed(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads, _ = _payloads(compressor, 300)
    whole = compressor.inner_products(payloads)

    def never(*_: object) -> None:
        raise AssertionError("decompressed")

    for name in ("decode", "decompress", "decompress_rows"):
        monkeypatch.setattr(type(compressor), name, never)
    assert np.array_equal(compressor.inner_products(payloads), whole)


@pytest.mark.parametrize("d", [64, 1003])
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5])
def test_full_and_empty_blocks_give_the_same(ratio: float, d: int) -> None:
    compressor = TopK(ratio=ratio)
    payloads, dense = _payloads(compressor, d)
    counts = [compressor.kept(d)] * len(payloads)
    for share in (0.0, 2.0):  # all blocks as dense, none
        found = sparse_products.sparse_products(compressor._entries, payloads, counts, None, dense=share)
        assert np.allclose(found, dense @ dense.T)


def test_memory_is_that_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    d, nodes = 100_000, 40
    payloads = [TopK(k=50).compress(gaussian(d, seed=seed)) for seed in range(nodes)]
    sizes: list[int] = []
    zeros: Any = torch.zeros

    def watched(*shape: int, **options: Any) -> Any:
        sizes.append(int(np.prod(shape)))
        return zeros(*shape, **options)

    monkeypatch.setattr(torch, "zeros", watched)
    monkeypatch.setattr(sparse_products, "_BLOCK_BYTES", 1 << 20)
    TopK(k=50).inner_products(payloads)
    assert max(sizes) <= (1 << 20) // 8 < nodes * d


def test_a_group_holds_no_more_than_so_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_products, "_GROUP_ENTRIES", 10)
    groups = list(sparse_products._groups([4, 4, 4, 30, 1, 9, 1]))
    assert groups == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6), slice(6, 7)]


@pytest.mark.parametrize("d", [1, 63, 64, 65, 40_000])
def test_bitmaps_are_counted_across_blocks_and_padding(d: int) -> None:
    x = np.sign(rng(1).standard_normal((5, d))) * (rng(2).random((5, d)) < 0.6)
    x[0] = 1  # full blocks: the largest counts
    x[1] = -1
    plus, minus = ([pack_bits(row) for row in side] for side in (x > 0, x < 0))
    assert np.array_equal(ternary_products(plus, minus), x @ x.T)
    bits = [pack_bits(row > 0) for row in x]
    assert np.array_equal(hamming_distances(bits), [[np.sum((a > 0) != (b > 0)) for b in x] for a in x])
