"""Positions of k out of d: near log2 C(d, k), canonical, and the choice of the largest entries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import TopK
from flwr_robustcomp.compressors.positions import Coding, fixed_size, largest_size, read_positions, write_positions
from flwr_robustcomp.compressors.selection import largest_entries
from flwr_robustcomp.errors import WireError

DENSITIES = [1e-4, 3e-4, 1e-3, 0.003, 0.0077, 0.0079, 0.0156, 0.03, 0.05, 0.1, 0.2, 0.3, 0.36, 0.4, 0.45, 0.5]


def subset_bits(d: int, k: int) -> float:
    return (math.lgamma(d + 1) - math.lgamma(k + 1) - math.lgamma(d - k + 1)) / math.log(2)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("d", [300_000, 1_000_000])
def test_within_two_percent_of_what_any_code_needs(d: int, density: float) -> None:
    k = round(density * d)
    index = np.sort(np.random.default_rng(7).choice(d, k, replace=False)).astype(np.int64)
    data = write_positions(index, d, "entropy")
    # A bit of slack for the byte that names the code and the last byte's padding, which only count where k is tiny.
    assert 8 * len(data) <= 1.02 * subset_bits(d, k) + 16
    assert np.array_equal(read_positions(data, k, d, "entropy"), index)


def test_each_code_wins_somewhere() -> None:
    rng = np.random.default_rng(0)
    used = {
        write_positions(np.sort(rng.choice(20_000, k, replace=False)).astype(np.int64), 20_000, "entropy")[0]
        for k in (20, 2_000, 7_000, 10_000)
    }
    assert used == {0, 1, 2}


@given(bits=st.lists(st.booleans(), min_size=1, max_size=300), coding=st.sampled_from(["entropy", "fixed"]))
def test_every_subset_comes_back(bits: list[bool], coding: Coding) -> None:
    index = np.flatnonzero(bits).astype(np.int64)
    if index.size:
        data = write_positions(index, len(bits), coding)
        assert len(data) <= largest_size(index.size, len(bits), coding)
        assert np.array_equal(read_positions(data, index.size, len(bits), coding), index)


@given(noise=st.binary(max_size=40), k=st.integers(1, 60), d=st.integers(60, 300))
def test_noise_is_refused_or_canonical(noise: bytes, k: int, d: int) -> None:
    try:
        index = read_positions(noise, k, d, "entropy")
    except WireError:
        return
    assert write_positions(index, d, "entropy") == noise


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_code_that_is_not_the_smallest_is_refused(number: int) -> None:
    index = np.arange(0, 4000, 400, dtype=np.int64)
    data = write_positions(index, 4000, "entropy")
    assert data[0] == 1
    from flwr_robustcomp.compressors.bits import pack_uints
    from flwr_robustcomp.compressors.entropy import encode_ranks

    mask = np.zeros(4000, np.int32)
    mask[index] = 1
    others = {
        0: b"\0" + pack_uints(index.astype(np.uint32), 12),
        1: b"\1" + data[1:] + b"\0",
        2: b"\2" + encode_ranks(mask, np.array([3990, 10])),
    }
    with pytest.raises(WireError):
        read_positions(others[number], 10, 4000, "entropy")


def test_the_fixed_form_has_the_size_that_k_and_d_say() -> None:
    assert fixed_size(10, 4000) == 15
    assert fixed_size(2000, 4000) == 500


@given(x=st.lists(st.integers(-5, 5), min_size=1, max_size=60), share=st.floats(0.01, 1))
def test_the_largest_entries_and_of_equal_ones_the_first(x: list[int], share: float) -> None:
    k = max(1, int(share * len(x)))
    order = sorted(range(len(x)), key=lambda i: (-abs(x[i]), i))
    assert largest_entries(np.array(x, np.float32), k).tolist() == sorted(order[:k])


def test_top_k_of_another_compressor_has_the_product_of_the_deltas() -> None:
    from flwr_robustcomp.compressors import QSGD, L1Sign

    assert TopK(k=20, values=QSGD(levels=8)).delta(100) == pytest.approx(0.2 * (QSGD(levels=8).delta(20) or 0))
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(100))
    q = TopK(k=20, values=L1Sign())
    kept = TopK(k=20).decompress(TopK(k=20).compress(x))
    found = q.decompress(q.compress(x))
    assert torch.allclose(found[found != 0].abs(), kept[kept != 0].abs().mean())
    assert q.codec == "top-k+l1-sign"
