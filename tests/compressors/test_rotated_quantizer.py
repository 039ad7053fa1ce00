"""Quantisation after rotation: unbiased for every rotation, its variance, what its decoder refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import QSGD, RotatedQuantizer
from flwr_robustcomp.compressors.bits import pack_uints
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import gaussian, rng


@pytest.mark.parametrize("spiked", [False, True])
@pytest.mark.parametrize("d", [2, 16, 1024])
def test_variance_stays_below_omega(d: int, spiked: bool) -> None:
    x, q = gaussian(d, torch.float64), RotatedQuantizer(levels=3, contraction=False)
    if spiked:
        x = x**7
    errors = [1 - q.for_round(r).measured_delta(x, rng(r)) for r in range(200)]
    assert np.mean(errors) - 3 * np.std(errors) / math.sqrt(200) <= q.omega(d)


def test_the_bound_for_any_rotation_is_attained() -> None:
    # y = R x with extremes +-1/sqrt(2) and all else between levels: a variance of s^2 / 4 = 1/2 for each of the other B - 2.
    size, q = 16, RotatedQuantizer(levels=2, contraction=False)
    y = np.zeros(size)
    y[:2] = 2**-0.5, -(2**-0.5)
    x = torch.from_numpy(q._rotate_out(y))
    errors = [1 - q.measured_delta(x, rng(seed)) for seed in range(50)]
    assert np.mean(errors) == pytest.approx((size - 2) / 2, rel=1e-9) and np.mean(errors) <= size / 2


def test_omega_no_longer_grows_where_qsgd_does() -> None:
    assert RotatedQuantizer(levels=16).omega(10**7) == RotatedQuantizer(levels=16).omega(4096)
    assert RotatedQuantizer(levels=16).omega(10**7) < 0.1 < QSGD(levels=16, bucket=None).omega(10**7)
    assert RotatedQuantizer(levels=3).omega(1) == 0 and RotatedQuantizer(levels=3).omega(2) == 0.25
    assert RotatedQuantizer(levels=3).omega(4096) == pytest.approx(2 * (math.log(4096) + 1) / 4)


def test_extremes_are_hit_and_a_constant_block_is_exact() -> None:
    q = RotatedQuantizer(levels=4, contraction=False)
    codes = q._codes(q.compress(gaussian(64), rng()))
    assert (codes.min(), codes.max()) == (0, 3)
    flat = torch.from_numpy(q._rotate_out(np.full(8, 2.5))).float()
    assert torch.allclose(q.decompress(q.compress(flat, rng())), flat, atol=1e-6)


def test_levels_cost_ceil_log2_bits_and_exactly_d_of_them() -> None:
    for levels, bits in ((2, 1), (3, 2), (4, 2), (16, 4), (17, 5), (2**16, 16)):
        assert RotatedQuantizer(levels=levels).body_size(8192, torch.float16) == 2 * 8 + 1024 * bits


@pytest.mark.parametrize("codes", [[0] * 8, [2] * 8, [0, 1, 1, 1, 1, 1, 1, 1], [3, 0, 2, 1, 1, 1, 1, 1]], ids=str)
def test_codes_that_miss_the_ends_are_refused(codes: list[int]) -> None:
    q = RotatedQuantizer(levels=3)
    payload = q.compress(gaussian(8), rng())
    with pytest.raises(WireError, match="codes must lie"):
        q.check(replace(payload, body=payload.body[:8] + pack_uints(np.array(codes, np.uint32), 2)))


@pytest.mark.parametrize("low, high", [(1.0, -1.0), (math.nan, 1.0), (0.0, math.inf), (-0.0, 1.0)])
def test_extremes_out_of_order_are_refused(low: float, high: float) -> None:
    q = RotatedQuantizer(levels=3)
    payload = q.compress(gaussian(8), rng())
    with pytest.raises(WireError, match="extremes must be"):
        q.check(replace(payload, body=torch.tensor([low, high]).view(torch.uint8).numpy().tobytes() + payload.body[8:]))


def test_extremes_whose_norm_is_infinite_are_refused() -> None:
    q = RotatedQuantizer(levels=3)
    payload = q.compress(gaussian(8).double(), rng())
    extremes = torch.tensor([-1.7e308, 1.7e308], dtype=torch.float64).view(torch.uint8).numpy().tobytes()
    with pytest.raises(WireError, match="overflows"):
        q.check(replace(payload, body=extremes + payload.body[16:]))


@pytest.mark.parametrize("levels", [1, 2**16 + 1, 2.0])
def test_bad_parameters(levels: int) -> None:
    with pytest.raises(ConfigurationError, match=r"levels must be an integer in \[2, 2\*\*16\], got"):
        RotatedQuantizer(levels=levels)
