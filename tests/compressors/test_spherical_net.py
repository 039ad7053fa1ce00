"""The net of the sphere: nearest points, the scale of least error, bits below one a coordinate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given

from flwr_robustcomp.compressors import L1Sign, SphericalNet
from flwr_robustcomp.compressors.bits import pack_uints
from flwr_robustcomp.compressors.spherical_net import net_directions
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import gaussian, vectors


def test_the_net_is_on_the_sphere_and_holds_the_axes() -> None:
    net = net_directions(7, 8, 16)
    assert net.shape == (128, 16) and np.allclose(np.linalg.norm(net, axis=1), 1)
    assert np.array_equal(net[:16], np.eye(16))
    assert not np.allclose(net_directions(8, 8, 16)[16:], net[16:])


@pytest.mark.parametrize("d", [1, 15, 16, 17, 100])
def test_each_block_goes_to_the_nearest_point(d: int) -> None:
    x, q = gaussian(d, torch.float64), SphericalNet(seed=7)
    found, payload = q.decompress(q.compress(x)).numpy(), q.compress(x)
    scale, total = payload.scalars[3], 0.0
    for start in range(0, d, 16):
        block = x.numpy()[start : start + 16]
        net = net_directions(7, 8, len(block))
        signed = np.concatenate([net, -net])
        nearest = signed[(signed @ block).argmax()]
        total += float(nearest @ block)
        assert np.allclose(found[start : start + 16], scale * nearest)
    assert scale == pytest.approx(total / math.ceil(d / 16))
    assert q.measured_delta(x) == pytest.approx(total**2 / math.ceil(d / 16) / float(x.square().sum()))


@given(x=vectors())
def test_blocks_of_one_and_one_bit_are_the_scaled_sign(x: torch.Tensor) -> None:
    q = SphericalNet(block=1, bits=1)
    assert torch.equal(q.decompress(q.compress(x)), L1Sign().decompress(L1Sign().compress(x)))


def test_the_guarantee_is_attained_by_one_flat_block_where_the_net_is_the_axes() -> None:
    q, x = SphericalNet(block=8, bits=4), torch.zeros(40)
    x[8:16] = 1.0
    assert q.measured_delta(x) == pytest.approx(q.delta(40), abs=1e-6) and q.delta(40) == 1 / 40


def test_more_points_are_nearer_and_gaussian_vectors_keep_much() -> None:
    x = gaussian(20_000)
    found = [SphericalNet(bits=bits).measured_delta(x) for bits in (5, 8, 11)]
    assert found == sorted(found) and found[1] > 0.35
    # No 2^bits points of the sphere of R^16 do better on Gaussian blocks than the rate-distortion bound.
    assert all(delta <= 1 - 2 ** (-2 * bits / 16) for delta, bits in zip(found, (5, 8, 11), strict=True))


def test_bits_are_sublinear_as_blocks_grow() -> None:
    assert SphericalNet().body_size(16_000, torch.float32) * 8 == 16_000 / 2
    shares = []
    for k in range(3, 12):
        d = 4**k  # blocks of sqrt(d), the smallest net that holds their axes
        shares.append(8 * SphericalNet(block=2**k, bits=k + 1).body_size(d, torch.float32) / d)
    assert shares == sorted(shares, reverse=True) and shares[-1] == 12 / 2048


@pytest.mark.parametrize("scale", [math.nan, -1.0, -0.0, 0.1, 1e39])
def test_scales_that_no_float32_vector_has_are_refused(scale: float) -> None:
    q = SphericalNet()
    payload = q.compress(gaussian(40))
    with pytest.raises(WireError, match="scale"):
        q.check(replace(payload, scalars=(*payload.scalars[:3], scale)))


def test_codes_that_mean_the_same_point_twice_are_refused() -> None:
    q = SphericalNet(block=4, bits=4)
    payload = q.compress(gaussian(5))
    with pytest.raises(WireError, match="index zero"):
        q.check(replace(payload, body=pack_uints(np.array([3, 2], np.uint32), 4)))
    single = SphericalNet(block=1, bits=4)
    with pytest.raises(WireError, match="index zero"):
        single.check(replace(single.compress(gaussian(2)), body=pack_uints(np.array([2, 0], np.uint32), 4)))
    with pytest.raises(WireError, match="zero scale"):
        q.check(replace(payload, scalars=(*payload.scalars[:3], 0.0), body=pack_uints(np.array([1, 0], np.uint32), 4)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"bits": 13}, r"bits must be an integer in \[1, 12\], got 13"),
        ({"block": 0}, r"block must be an integer in \[1, 2\*\*\(bits - 1\) = 128\], got 0"),
        ({"block": 17, "bits": 5}, r"block must be an integer in \[1, 2\*\*\(bits - 1\) = 16\], got 17"),
        ({"seed": 2**64}, r"seed must be an integer in \[0, 2\*\*64\), got 18446744073709551616"),
    ],
)
def test_bad_parameters(options: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        SphericalNet(**options)
