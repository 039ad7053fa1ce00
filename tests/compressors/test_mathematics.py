"""What each compressor promises beyond the contract: its own formula, its own statistics, its own refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import QSGD, Compressor, Identity, L1Sign, RandomK, Sign, TopK
from flwr_robustcomp.compressors.bits import pack_uints
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import gaussian, rng, vectors


@given(x=vectors())
def test_l1_sign_has_exactly_its_delta(x: Tensor) -> None:
    x = x.double()
    if float(x.abs().max()) < 1e-3:
        return
    exact = float(x.abs().sum() ** 2 / (x.numel() * x.square().sum()))
    assert L1Sign().measured_delta(x) == pytest.approx(exact, abs=1e-12)
    assert exact >= L1Sign().delta(x.numel()) - 1e-12


def test_l1_sign_on_a_spike_attains_its_guarantee() -> None:
    x = torch.zeros(50)
    x[7] = -3.0
    assert L1Sign().measured_delta(x) == pytest.approx(1 / 50, abs=1e-6)


def test_l1_sign_by_hand() -> None:
    q = L1Sign().decompress(L1Sign().compress(torch.tensor([1.0, -2.0, 3.0, 0.0])))
    assert q.tolist() == [1.5, -1.5, 1.5, 1.5]


@pytest.mark.parametrize("d", [8, 9, 1000, 795_010])
def test_a_scaled_sign_costs_a_bit_a_coordinate(d: int) -> None:
    assert len(wire.pack(L1Sign().compress(gaussian(d)), L1Sign()).data) <= d / 8 + 64


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0, -0.0, 0.1, 1e39, 1e300])
def test_l1_sign_refuses_scales_that_no_float32_vector_has(scale: float) -> None:
    payload = replace(L1Sign().compress(gaussian(9)), scalars=(scale,))
    with pytest.raises(WireError, match="scale"):
        L1Sign().check(payload)


def test_a_zero_scale_comes_with_positive_signs_only() -> None:
    payload = L1Sign().compress(torch.zeros(9))
    L1Sign().check(payload)
    with pytest.raises(WireError, match="zero scale"):
        L1Sign().check(replace(payload, body=b"\x00\x00"))


def test_sign_has_no_delta_and_no_norm() -> None:
    sign: Compressor = Sign()
    assert sign.delta(10) is None and not Sign().embeds_norm
    assert Sign().measured_delta(torch.full((10,), 1e-3)) < 0


@pytest.mark.parametrize(
    ("k", "ratio", "d", "kept"), [(3, None, 10, 3), (None, 0.25, 10, 3), (None, 1e-9, 10, 1), (None, 1.0, 7, 7)]
)
def test_top_k_keeps_the_largest(k: int | None, ratio: float | None, d: int, kept: int) -> None:
    x = gaussian(d)
    q = TopK(k=k, ratio=ratio).decompress(TopK(k=k, ratio=ratio).compress(x))
    largest = x.abs().argsort(descending=True)[:kept]
    assert torch.equal(q.nonzero().flatten(), largest.sort().values)
    assert torch.equal(q[largest], x[largest])


@pytest.mark.parametrize("d", [1000, 1 << 17])
def test_positions_never_cost_more_than_a_bitmap_or_fixed_width(d: int) -> None:
    for k in (1, d // 100, d // 10, d // 2, d):
        size = TopK(k=k, coding="fixed").body_size(d, torch.float32) - 4 * k
        assert size == min((d + 7) // 8, (k * (d - 1).bit_length() + 7) // 8)


@pytest.mark.parametrize("positions", [[1, 1, 5], [5, 1, 2], [1, 2, 100]], ids=["twice", "unsorted", "beyond"])
def test_top_k_refuses_other_positions(positions: list[int]) -> None:
    q = TopK(k=3, coding="fixed")
    payload = q.compress(gaussian(100))
    packed = pack_uints(np.array(positions, np.uint32), 7)
    with pytest.raises(WireError, match="positions"):
        q.check(replace(payload, body=packed + payload.body[len(packed) :]))


def test_random_k_and_its_unbiased_form() -> None:
    x, plain, unbiased = gaussian(20, torch.float64), RandomK(k=5), RandomK(k=5, unbiased=True)
    assert torch.allclose(unbiased.decompress(unbiased.compress(x, rng(1))), 4 * plain.decompress(plain.compress(x, rng(1))))


def test_every_entry_is_equally_likely_to_be_kept() -> None:
    counts = sum((RandomK(k=3).decompress(RandomK(k=3).compress(torch.ones(12), rng(s))) for s in range(4000)), torch.zeros(12))
    assert bool(((counts / 4000 - 0.25).abs() < 4 * math.sqrt(0.25 * 0.75 / 4000)).all())


def test_qsgd_levels_cost_ceil_log2_bits() -> None:
    for levels, bits in ((1, 2), (2, 3), (3, 3), (4, 4), (16, 6), (127, 8), (128, 9)):
        assert bits == math.ceil(math.log2(2 * levels + 1))
        assert QSGD(levels=levels, coding="fixed", bucket=None).body_size(8000, torch.float32) == 1000 * bits


@pytest.mark.parametrize(
    ("levels", "named"),
    [([4] * 10, "no vector"), ([0] * 10, "no vector"), ([9] + [0] * 9, "levels must lie")],
    ids=["too long", "too short", "beyond s"],
)
def test_qsgd_refuses_levels_that_no_vector_of_that_norm_has(levels: list[int], named: str) -> None:
    q = QSGD(levels=4, coding="fixed", contraction=True)
    payload = q.compress(gaussian(10), rng())
    packed = pack_uints(np.array(levels, np.int32).astype(np.int64).__add__(4).astype(np.uint32), 4)
    with pytest.raises(WireError, match=named):
        q.check(replace(payload, body=packed))


def test_a_payload_of_other_parameters_is_refused() -> None:
    for theirs, ours in (
        (QSGD(4), QSGD(5)),
        (QSGD(4), QSGD(4, contraction=True)),
        (QSGD(4), QSGD(4, bucket=256)),
        (QSGD(4), QSGD(4, bucket=None)),
        (TopK(k=3), TopK(k=4)),
        (RandomK(k=3), RandomK(k=3, unbiased=True)),
    ):
        payload = theirs.compress(gaussian(64), rng())
        with pytest.raises(WireError):
            wire.read_packed(wire.pack(payload, theirs), ours, payload.shape, payload.dtype)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TopK(), "k, ratio must be given one or the other"),
        (lambda: TopK(k=1, ratio=0.5), "k, ratio must be given one or the other"),
        (lambda: TopK(k=0), r"k must be an integer in \[1, 2\*\*32\), got 0"),
        (lambda: RandomK(ratio=1.5), r"ratio must be in \(0, 1\], got 1.5"),
        (lambda: QSGD(levels=0), r"levels must be an integer in \[1, 2\*\*15\), got 0"),
        (lambda: TopK(k=5).compress(torch.ones(4)), r"k must be in \[1, 4\], the number of coordinates, got 5"),
        (lambda: RandomK(k=5).compress(torch.ones(4), rng()), r"k must be in \[1, 4\], the number of coordinates, got 5"),
    ],
)
def test_bad_parameters_name_the_parameter_the_value_and_the_interval(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()


def test_identity_loses_nothing() -> None:
    x = gaussian(100, torch.bfloat16)
    assert torch.equal(Identity().decompress(Identity().compress(x)), x)
