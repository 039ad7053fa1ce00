"""Buckets of QSGD and TernGrad: their formulas, the bytes of both forms, and what a decoder asks of each bucket."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import NORM_ORDERS, QSGD, TernGrad, vector_norm
from flwr_robustcomp.compressors.bits import pack_bits, pack_uints
from flwr_robustcomp.compressors.bucket_products import bucket_products
from flwr_robustcomp.compressors.buckets import bucket_norms, bucket_sizes, bucket_starts, fold, spread
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import DTYPE_LIST, gaussian, rng, vectors

Kind = type[QSGD] | type[TernGrad]
both = pytest.mark.parametrize("kind", [QSGD, TernGrad])


# -- pieces ---------------------------------------------------------------------------------------------------------------


@given(d=st.integers(1, 200), exponent=st.integers(3, 8))
def test_buckets_tile_a_vector(d: int, exponent: int) -> None:
    bucket = 1 << exponent
    starts, sizes = bucket_starts(d, bucket), bucket_sizes(d, bucket)
    assert starts[0] == 0 and sizes.sum() == d and np.array_equal(starts[1:], np.cumsum(sizes)[:-1])
    assert (sizes[:-1] == bucket).all() and 0 < sizes[-1] <= bucket
    assert bucket_sizes(d, None).tolist() == [d]


@given(d=st.integers(1, 200), exponent=st.integers(3, 6), data=st.data())
def test_a_part_sees_the_values_of_its_own_buckets(d: int, exponent: int, data: st.DataObject) -> None:
    bucket = 1 << exponent
    start = data.draw(st.integers(0, d - 1))
    stop = data.draw(st.integers(start + 1, d))
    places = np.arange(d) // bucket
    values = np.arange(float(places[-1] + 1))
    seen = np.broadcast_to(spread(values, bucket, start, stop), (stop - start,))
    assert np.array_equal(seen, places[start:stop])
    total = np.zeros(values.size, np.int64)
    for first in (0, start, stop):  # three parts, which cut buckets anywhere
        last = {0: start, start: stop, stop: d}[first]
        if first < last:
            fold(total, np.add, np.ones(last - first, np.int64), first, bucket)
    if start:
        assert np.array_equal(total, bucket_sizes(d, bucket))


@pytest.mark.parametrize("scale", [1.0, 1e-170, 1e-300, 1e200])
def test_norms_of_buckets_lose_no_square(scale: float) -> None:
    x = gaussian(43, torch.float64).numpy() * scale
    x[8:16] = 0.0
    wanted = [vector_norm(torch.from_numpy(x[i : i + 8].copy()), 2) for i in range(0, 43, 8)]
    assert bucket_norms(x, 8) == pytest.approx(wanted, rel=1e-14)
    assert bucket_norms(x, 8)[1] == 0.0


@pytest.mark.parametrize("bucket", [8, 32, 64, 256])
@pytest.mark.parametrize("chosen", [None, [3, 0], [15]])
def test_products_of_ternary_buckets(bucket: int, chosen: list[int] | None) -> None:
    d = 1003
    signs = rng(1).integers(-1, 2, (5, d))
    scales = rng(2).random((5, -(-d // bucket)))
    dense = signs * np.repeat(scales, bucket, axis=1)[:, :d]
    runs = None if chosen is None else np.array(chosen)
    seen = np.ones(d, bool) if runs is None else np.isin(np.arange(d) // 64, runs)
    plus, minus = ([pack_bits(row) for row in side] for side in (signs > 0, signs < 0))
    found = bucket_products(plus, minus, scales, bucket, runs)
    assert found == pytest.approx(dense[:, seen] @ dense[:, seen].T, rel=1e-12)
    assert np.array_equal(found, found.T)


# -- what is promised -----------------------------------------------------------------------------------------------------


def test_the_defaults_are_unbiased_and_qsgd_is_a_contraction_of_every_length() -> None:
    assert QSGD().unbiased and TernGrad().unbiased
    assert QSGD().omega(10**9) == pytest.approx(0.5) and QSGD().delta(10**9) == pytest.approx(0.5)
    assert TernGrad().delta(10**9) is None
    assert TernGrad(contraction=True).delta(10**9) == pytest.approx(2 / (1 + math.sqrt(TernGrad().bucket or 0)))


@pytest.mark.parametrize("bucket", [8, 64, 512, None])
def test_omega_is_that_of_the_longest_bucket(bucket: int | None) -> None:
    for d in (1, 8, 100, 10**6):
        n = min(d, bucket or d)
        assert QSGD(levels=5, bucket=bucket).omega(d) == min(n / 25, math.sqrt(n) / 5)
        assert TernGrad(bucket=bucket).omega(d) == (math.sqrt(n) - 1) / 2
        assert QSGD(levels=5, bucket=bucket, contraction=True).delta(d) == 1 / (1 + min(n / 25, math.sqrt(n) / 5))


@both
def test_the_unbiased_forms_stay_within_their_variance(kind: Kind) -> None:
    # The last of three buckets is shorter; the scales differ by 10,000, which one scale for all would drown.
    x = torch.cat([gaussian(16, torch.float64) * 1e-4, gaussian(16, torch.float64, 1), gaussian(5, torch.float64, 2) * 10])
    q = kind(bucket=16)
    draws = torch.stack([q.decompress(q.compress(x, rng(seed))) for seed in range(1000)])
    assert bool(((draws.mean(dim=0) - x).abs() <= 4.5 * draws.std(dim=0) / math.sqrt(1000) + 1e-12).all())
    for part in (slice(0, 16), slice(16, 32), slice(32, 37)):
        variance = float((draws - x)[:, part].square().sum(dim=1).mean())
        n = x[part].numel()
        assert variance <= q.omega(n) * float(x[part].square().sum()) * 1.15


@pytest.mark.parametrize("q", [QSGD(levels=2, contraction=True, bucket=16), TernGrad(contraction=True, bucket=16)], ids=repr)
def test_contractions_divide_each_bucket_by_its_own_factor(q: QSGD | TernGrad) -> None:
    x = torch.cat([gaussian(16, torch.float64), gaussian(3, torch.float64, 1)])
    draws = torch.stack([q.decompress(q.compress(x, rng(seed))) for seed in range(1500)]).mean(dim=0)
    for part, n in ((slice(0, 16), 16), (slice(16, 19), 3)):
        share = float(draws[part] @ x[part] / x[part].square().sum())
        assert share == pytest.approx(1 / (1 + q.omega(n)), rel=0.08)


@both
@pytest.mark.parametrize("bucket", [8, 512, None])
@given(x=vectors())
def test_zeros_stay_zero(kind: Kind, bucket: int | None, x: Tensor) -> None:
    x[:: 2 + x.numel() % 3] = 0.0
    q = kind(bucket=bucket)
    assert q.keeps_zeros and not bool(q.decompress(q.compress(x, rng()))[x == 0].any())


@both
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
def test_norms_and_bounds_over_many_buckets(kind: Kind, dtype: torch.dtype) -> None:
    x = gaussian(203, dtype) * 0.3
    x[40:60] = 0
    q = kind(bucket=16, contraction=True)
    payload = q.compress(x, rng())
    dense = q.decompress(payload)
    for order in NORM_ORDERS:
        assert q.norm(payload, order) == pytest.approx(vector_norm(dense, order), rel=1e-6)
        low, high = q.norm_bounds(payload, order)
        slack = 1 + 8 * torch.finfo(dtype).eps
        assert low / slack <= vector_norm(x, order) <= high * slack
    assert QSGD(bucket=16).norm_bounds(QSGD(bucket=16).compress(x, rng()))[1] == pytest.approx(vector_norm(x, 2), rel=1e-6)


def test_a_norm_is_rounded_up_so_that_no_entry_exceeds_it() -> None:
    x = gaussian(4096) * torch.logspace(-20, 15, 4096)
    q = QSGD(bucket=8)
    wide = bucket_norms(x.double().numpy(), 8)
    payload = q.compress(x, rng())
    sent = q._norms(payload)
    assert (sent >= wide).all() and (sent <= wide * (1 + 2**-22)).all() and (sent != wide).any()
    q.check(payload)


# -- bytes ----------------------------------------------------------------------------------------------------------------


X = torch.cat([torch.tensor([3.0, -4.0]), torch.zeros(6), torch.zeros(8), torch.tensor([-2.0])])
"""Three buckets of at most 8, of norms 5, 0 and 2, and of levels 3 -4 and -5 at s = 5: 4 bits each, level + 5."""


def test_golden_bytes_of_buckets() -> None:
    q = QSGD(levels=5, coding="fixed", bucket=8)
    data = wire.pack(q.compress(X, rng()), q).data.hex()
    # The word is 3 << 17 | 5 << 2; the norm of the first bucket stands in the header, of the others before the levels.
    assert data == "14000600" + "0000000000001440" + "00000000" + "00000040" + "18" + "555555" + "55555555" + "00"
    t = TernGrad(coding="fixed", bucket=8)
    y = torch.cat([torch.full((8,), -4.0), torch.zeros(8), torch.tensor([2.0])])
    data = wire.pack(t.compress(y, rng()), t).data.hex()
    assert data == "0c" + "0000000000000000" + "0000000000001040" + "00000000" + "00000040" + "000001" + "ff0000"


@both
@pytest.mark.parametrize("bucket", [8, 512, None])
@pytest.mark.parametrize("coding", ["fixed", "entropy"])
def test_both_forms_are_read_without_a_configuration(kind: Kind, bucket: int | None, coding: Any) -> None:
    q = kind(bucket=bucket, coding=coding)
    payload = q.compress(gaussian(1500), rng())
    array = wire.pack(payload, q)
    assert wire.unpack_trusted(array) == (q, payload)
    for other in (None, 8, 64, 512):
        if other != bucket:
            with pytest.raises(WireError):
                wire.read_packed(array, kind(bucket=other, coding=coding), payload.shape, payload.dtype)


@both
def test_zero_stands_for_the_whole_vector(kind: Kind) -> None:
    assert kind(bucket=0) == kind(bucket=None)
    assert kind(bucket=0).bucket is None


@both
@pytest.mark.parametrize("bucket", [-8, 4, 100, 1 << 21, 64.0, "64"])
def test_other_sizes_are_refused(kind: Kind, bucket: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"bucket must be a power of two in \[8, 2\*\*20\], or None or 0"):
        kind(bucket=bucket)


@both
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
@pytest.mark.parametrize("coding", ["fixed", "entropy"])
def test_sizes_are_known_before_anything_is_decoded(kind: Kind, dtype: torch.dtype, coding: Any) -> None:
    q = kind(bucket=64, coding=coding)
    size = {QSGD: max(4, dtype.itemsize), TernGrad: dtype.itemsize}[kind]
    whole = replace(q, bucket=None)
    assert q.body_size(1000, dtype) == whole.body_size(1000, dtype) + 15 * size
    assert len(q.compress(gaussian(1000, dtype), rng()).body) <= q.body_size(1000, dtype)
    assert q.body_size(64, dtype) == whole.body_size(64, dtype)


def test_levels_of_one_bucket_cannot_borrow_from_another() -> None:
    q = QSGD(levels=4, coding="fixed", bucket=8)
    payload = q.compress(torch.ones(16), rng())
    head = payload.body[:4]
    q.check(payload)
    for levels, named in (
        ([4] * 8 + [1] * 8, "no vector of the announced norm"),
        ([1] * 8 + [0] * 8, "no vector of the announced norm"),
        ([1] * 8 + [5] + [0] * 7, "levels must lie"),
    ):
        body = head + pack_uints((np.array(levels) + 4).astype(np.uint32), 4)
        with pytest.raises(WireError, match=named):
            q.check(replace(payload, body=body))


@pytest.mark.parametrize("norm", [math.nan, math.inf, -1.0, -0.0])
def test_every_norm_is_looked_at(norm: float) -> None:
    for q in (QSGD(levels=4, bucket=8), QSGD(levels=4, bucket=8, coding="fixed")):
        payload = q.compress(torch.ones(16), rng())
        body = np.array([norm], "<f4").tobytes() + payload.body[4:]
        with pytest.raises(WireError, match="the norm of each bucket"):
            q.check(replace(payload, body=body))
    with pytest.raises(WireError, match="must be exact"):
        q.check(replace(payload, scalars=(payload.scalars[0], 2.000000001)))
    t = TernGrad(bucket=8)
    ternary = t.compress(torch.ones(16), rng())
    with pytest.raises(WireError, match="scale"):
        t.check(replace(ternary, body=np.array([norm], "<f4").tobytes() + ternary.body[4:]))


def test_a_zero_norm_means_zero_symbols_in_that_bucket() -> None:
    q, t = QSGD(levels=4, bucket=8, coding="fixed"), TernGrad(bucket=8, coding="fixed")
    x = torch.cat([torch.ones(8), torch.zeros(8)])
    levels = [1] * 8 + [0] * 7 + [1]
    body = bytes(4) + pack_uints((np.array(levels) + 4).astype(np.uint32), 4)
    with pytest.raises(WireError, match="a zero norm"):
        q.check(replace(q.compress(x, rng()), body=body))
    for scale, plus in ((0.0, b"\xff\x01"), (1.0, b"\xff\x00")):
        body = np.array([scale], "<f4").tobytes() + plus + b"\0\0"
        with pytest.raises(WireError, match="the scale must be zero"):
            t.check(replace(t.compress(x, rng()), body=body))


@both
def test_a_body_too_short_for_its_norms_is_refused(kind: Kind) -> None:
    q = kind(bucket=8)
    payload = q.compress(gaussian(64), rng())
    with pytest.raises(WireError, match="truncated"):
        q.check(replace(payload, body=payload.body[:20]))


@both
def test_error_feedback_keeps_its_residual_bounded(kind: Kind) -> None:
    # The unbiased default of TernGrad has no theorem for this; both contractions have.
    for q in (kind(), kind(contraction=True)):
        residual, lengths = torch.zeros(2048), []
        for step in range(60):
            p = gaussian(2048, seed=step) + residual
            residual = p - q.decompress(q.compress(p, rng(step)))
            lengths.append(float(residual.norm()) / math.sqrt(2048))
        delta = q.delta(2048)
        bound = 12.0 if delta is None else math.sqrt(1 - delta) / (1 - math.sqrt(1 - delta))
        assert max(lengths[-10:]) <= min(bound, 12.0)
