"""DRIVE: published numbers, its delta for every rotation and in expectation, what its decoder refuses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Drive, L1Sign, vector_norm
from flwr_robustcomp.compressors.rotation import block_sizes, rotate
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import gaussian


def test_the_published_example() -> None:
    q = Drive(rotate=False, unbiased_scale=True)  # ||x||^2 / ||x||_1 = 14 / 6
    assert q.decompress(q.compress(torch.tensor([1.0, -2.0, 3.0]))).tolist() == pytest.approx([7 / 3, -7 / 3, 7 / 3])


def test_without_rotation_it_is_the_scaled_sign() -> None:
    x = gaussian(100)
    assert torch.equal(
        Drive(rotate=False).decompress(Drive(rotate=False).compress(x)), L1Sign().decompress(L1Sign().compress(x))
    )
    assert Drive(rotate=False).delta(100) == L1Sign().delta(100) and Drive(rotate=False).pointwise


@pytest.mark.parametrize("d", [4, 100, 5000])
def test_delta_is_what_the_l1_norms_of_the_rotated_blocks_say(d: int) -> None:
    x, q = gaussian(d, torch.float64), Drive(seed=3).for_round(2)
    y, starts = rotate(x.numpy(), 3, 2), np.cumsum((0, *block_sizes(d)))
    kept = sum(np.abs(y[a:b]).sum() ** 2 / (b - a) for a, b in itertools.pairwise(starts))
    assert q.measured_delta(x) == pytest.approx(kept / float(x.square().sum()), abs=1e-12)


@pytest.mark.parametrize("x", [[1.0, 1.0], [3.0, 0, 0, 0], [1.0, 1, 0, 0], [2.0, 1, 1, 0.5, 0, 0, 0, 9], [1.0] * 64], ids=str)
def test_half_is_guaranteed_in_expectation_and_attained(x: list[float]) -> None:
    vector = torch.tensor(x, dtype=torch.float64)
    found = [Drive().for_round(round_).measured_delta(vector) for round_ in range(400)]
    assert np.mean(found) >= 0.5 - 4 * np.std(found) / math.sqrt(len(found)) - 1e-12
    if len(x) == 2:  # Szarek's extremal case: |s_1 + s_2| / 2
        assert np.mean(found) == pytest.approx(0.5, abs=1e-12)


def test_the_unbiased_scale_keeps_the_inner_product_but_not_the_mean() -> None:
    q, x = Drive(unbiased_scale=True), torch.tensor([2.0, 1.0], dtype=torch.float64)
    draws = torch.stack([q.for_round(r).decompress(q.for_round(r).compress(x)) for r in range(50)])
    assert torch.allclose(draws @ x, torch.full((50,), 5.0, dtype=torch.float64))
    assert not bool(draws[:, 1].abs().max() > 1e-12)  # the smaller entry never arrives under a Hadamard rotation
    assert not q.unbiased and q.delta(2) is None


@pytest.mark.parametrize(
    "q", [Drive(), Drive(unbiased_scale=True), Drive(rotate=False), Drive(rotate=False, unbiased_scale=True)]
)
def test_norm_bounds_are_attained_by_flat_and_by_spiked_blocks(q: Drive) -> None:
    flat = q.decompress(q.compress(gaussian(16, torch.float64)))
    payload = q.compress(flat)
    scale = vector_norm(flat, 2) / 4  # y = scale * signs
    low, high = q.norm_bounds(payload, 2)
    assert (high if q.unbiased_scale else low) == pytest.approx(4 * scale)
    spike = torch.zeros(16, dtype=torch.float64)
    spike[3] = -5.0
    low, high = q.norm_bounds(q.compress(torch.from_numpy(q._rotate_out(spike.numpy()))), 2)  # a spike in the rotated basis
    assert (low if q.unbiased_scale else high) == pytest.approx(5.0)


def test_a_bit_a_coordinate_and_a_scale_a_block() -> None:
    assert Drive().body_size(8192, torch.float32) == 1024 + 2 * 4
    assert Drive().body_size(4097, torch.float16) == 513 + 2 * 2


def test_another_round_or_seed_is_refused() -> None:
    q = Drive(seed=4).for_round(7)
    payload = q.compress(gaussian(20))
    for ours in (q.for_round(8), Drive(seed=5).for_round(7), Drive(seed=4, unbiased_scale=True).for_round(7)):
        with pytest.raises(WireError, match=r"\(seed, round, .*\) must be"):
            wire.read_packed(wire.pack(payload, q), ours, (20,), torch.float32)


def test_bad_scales_and_signs_are_refused() -> None:
    q, payload = Drive(), Drive().compress(gaussian(8))
    for scale in (math.nan, math.inf, -1.0, -0.0):
        packed = torch.tensor([scale]).view(torch.uint8).numpy().tobytes()
        with pytest.raises(WireError, match="scales must be"):
            q.check(replace(payload, body=packed + payload.body[4:]))
    with pytest.raises(WireError, match="zero scale"):
        q.check(replace(payload, body=bytes(5)))
    half = Drive().compress(gaussian(8, torch.float16))
    huge = torch.tensor([6e4], dtype=torch.float16).view(torch.uint8).numpy().tobytes()
    spike = (
        torch.from_numpy(rotate(np.eye(8)[0], 0, 0)) > 0
    )  # the signs of a spike: all of 8 scales of 6e4 / sqrt(8) in one entry
    with pytest.raises(WireError, match="overflows"):
        q.check(replace(half, body=huge + np.packbits(spike.numpy(), bitorder="little").tobytes()))


def test_bad_parameters() -> None:
    with pytest.raises(ConfigurationError, match=r"seed must be an integer in \[0, 2\*\*64\), got -1"):
        Drive(seed=-1)
    with pytest.raises(ConfigurationError, match=r"round must be in \[0, 2\*\*32\), got -1"):
        Drive().for_round(-1)
