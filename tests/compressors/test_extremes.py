"""Tiny, huge and long vectors, and what a decoder's acceptance is worth."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import QSGD, Compressor, Eden, Identity, L1Sign, LowRank, RandomK, Sign, TopK, working_dtype
from flwr_robustcomp.compressors.bits import pack_uints, unpack_uints
from flwr_robustcomp.compressors.values import values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError
from tests.compressors.samples import ALL, DTYPE_LIST, SUMMED_UNROUNDED, gaussian, rng

every = pytest.mark.parametrize("compressor", ALL, ids=repr)


@every
def test_every_honest_payload_passes_its_own_check(compressor: Compressor) -> None:
    for size, dtype in itertools.product(["subnormal", "tiny", "large"], DTYPE_LIST):
        info = torch.finfo(dtype)
        # Norms must be doubles and one step of float16 must not overflow: large is the largest that leaves room for that.
        peak = {"subnormal": info.smallest_normal / 2, "tiny": 4 * info.smallest_normal, "large": min(info.max / 64, 1e150)}[
            size
        ]
        x = (gaussian(40, torch.float64).clamp(-1, 1) * peak).to(dtype)
        payload = compressor.compress(x, rng())
        assert wire.read_packed(wire.pack(payload, compressor), compressor, (40,), dtype) == payload
        delta = compressor.delta(40)
        if delta is not None and compressor.pointwise and size != "subnormal":
            assert compressor.measured_delta(x) >= delta - (0.01 if dtype.itemsize == 2 else 1e-6)


@pytest.mark.parametrize("bucket", [None, 512])
@pytest.mark.parametrize("norm", [1e-44, 1e-40, 1e-37, 1e-30, 1.0, 1e30])
def test_qsgd_stays_unbiased_whatever_the_norm(norm: float, bucket: int | None) -> None:
    x = ((gaussian(20) / gaussian(20).norm()).double() * norm).float()
    q = QSGD(levels=4, contraction=False, coding="fixed", bucket=bucket)
    unit = float(q.compress(x, rng()).scalars[1])
    if bucket is None or norm > 1e-38:  # a norm that travels in float32 is rounded up, far up where it is subnormal
        assert unit == pytest.approx(float(x.double().norm()), rel=1e-6)
    assert unit >= float(x.double().norm())
    draws = torch.stack([torch.from_numpy(_levels(q, x, seed)) for seed in range(2000)]).double()
    error = 5 * draws.std(dim=0) / math.sqrt(2000) + 1e-9
    assert bool(((draws.mean(dim=0) - x.double() * (4 / unit)).abs() <= error).all())


def _levels(q: QSGD, x: torch.Tensor, seed: int) -> np.ndarray:
    body = q.compress(x, rng(seed)).body
    return unpack_uints(body, x.numel(), (2 * q.levels).bit_length()).astype(np.int64) - q.levels


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_long_rows_are_summed_as_long_vectors_are(compressor: Compressor, dtype: torch.dtype) -> None:
    wide = torch.stack([gaussian(20_011, dtype, seed) for seed in range(3)])
    for rows in (wide, wide[:, 5:20_000], wide[1:, ::2]):
        generators = [rng(seed) for seed in range(len(rows))]
        single = [compressor.compress(row, rng(seed)) for seed, row in enumerate(rows)]
        assert compressor.compress_rows(rows, generators) == single


@every
def test_accumulate_loses_no_more_than_its_accumulator(compressor: Compressor) -> None:
    for dtype in DTYPE_LIST:
        payloads = [compressor.compress(gaussian(300, dtype, seed), rng(seed)) for seed in range(9)]
        weights = rng(5).standard_normal(9).tolist()
        out = torch.zeros(300, dtype=working_dtype(dtype))
        compressor.accumulate(out, payloads, weights)
        terms = torch.stack([w * compressor.decompress(p).double() for p, w in zip(payloads, weights, strict=True)])
        eps = torch.finfo(dtype if compressor.name in SUMMED_UNROUNDED else out.dtype).eps
        bound = 32 * eps * sum(abs(w) * float(t.abs().max()) for w, t in zip(weights, terms, strict=True))
        assert float((out.double() - terms.sum(dim=0)).abs().max()) <= bound + 1e-300


@every
@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (torch.ones(2, 3, dtype=torch.int64), "dtype of x must be one of"),
        (torch.ones(2, 0), "number of entries of x must be at least 1"),
        (torch.tensor([[1.0, 1.0], [1.0, math.nan]]), "x must be finite"),
    ],
    ids=["integers", "empty", "nan"],
)
def test_bad_rows_are_refused_like_bad_vectors(compressor: Compressor, rows: torch.Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        compressor.compress_rows(rows, [rng(), rng()])
    assert compressor.compress_rows(torch.ones(0, 3), []) == []


# -- whatever is accepted could have come from the honest compressor ------------------------------------------------------


def _accepted(compressor: Compressor, data: bytes, d: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what foreign bytes decode to; skip the example if they are refused."""
    name = str(dtype).removeprefix("torch.")
    array = wire.pack(compressor.compress(torch.ones(d, dtype=dtype), rng()), compressor)
    array.data, array.dtype = data, name
    try:
        return compressor.decompress(wire.read_packed(array, compressor, (d,), dtype))
    except WireError:
        assume(False)
        raise


@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), Sign(), TopK(k=2), TopK(ratio=1.0)], ids=repr)
@given(d=st.integers(2, 20), seed=st.integers(0, 2**32), dtype=st.sampled_from(DTYPE_LIST[:3]))
def test_an_accepted_payload_is_q_of_what_it_decodes_to(compressor: Compressor, d: int, seed: int, dtype: torch.dtype) -> None:
    data = bytearray(wire.pack(compressor.compress(gaussian(d, dtype, seed), rng()), compressor).data)
    data[seed % len(data)] ^= 1 << seed % 8
    q = _accepted(compressor, bytes(data), d, dtype)
    again = compressor.compress(q)
    assert torch.equal(compressor.decompress(again), q)
    if not isinstance(compressor, TopK) or not bool((q == 0).any()):  # which zeros top-k keeps is a matter of taste
        assert wire.pack(again, compressor).data == bytes(data)


@every
@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
def test_unused_bits_are_zero(compressor: Compressor, dtype: torch.dtype) -> None:
    payload = compressor.compress(gaussian(41, dtype), rng())
    if isinstance(compressor, Identity | LowRank) or compressor == Eden(bits=8) or not payload.body:
        return  # whole entries only
    if not compressor.exact_size or hasattr(compressor, "kept"):
        return  # bits do not end with the body; any change must be refused or be another payload, see the contract
    body = bytearray(payload.body)
    body[-1] |= 0x80
    if bytes(body) == payload.body:
        return  # every bit is used
    with pytest.raises(WireError, match="padding bits must be zero"):
        compressor.check(replace(payload, body=bytes(body)))


@pytest.mark.parametrize("compressor", [TopK(k=2), TopK(ratio=0.1), RandomK(k=2), QSGD(levels=4)], ids=repr)
def test_the_announced_parameters_must_be_the_configured_ones(compressor: Compressor) -> None:
    payload = compressor.compress(gaussian(20), rng())
    for word in (0, 1, 3, 2**32 - 1):
        with pytest.raises(WireError, match=r"must be .*got"):
            compressor.check(replace(payload, scalars=(word, *payload.scalars[1:])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_l1_sign_sends_nothing_where_the_mean_rounds_to_zero(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    x = torch.zeros(3, 40, dtype=dtype)
    x[0] = -1.0
    x[1, 7] = -info.smallest_normal * info.eps  # the smallest subnormal; its mean over 40 entries is none
    rows = L1Sign().compress_rows(x, [None] * 3)
    assert rows == [L1Sign().compress(row) for row in x]
    assert [p.scalars for p in rows] == [(1.0,), (0.0,), (0.0,)]
    assert rows[1].body == rows[2].body
    for payload in rows:
        L1Sign().check(payload)


@given(levels=st.lists(st.integers(-4, 4), min_size=1, max_size=30), norm=st.floats(1e-3, 1e3))
def test_qsgd_accepts_exactly_the_levels_that_some_vector_of_the_norm_can_round_to(levels: list[int], norm: float) -> None:
    q, d = QSGD(levels=4, contraction=False, coding="fixed", bucket=None), len(levels)
    payload = q.compress(gaussian(d, torch.float64), rng())
    body = pack_uints((np.array(levels) + 4).astype(np.uint32), 4)
    payload = replace(payload, scalars=(payload.scalars[0], norm), body=body)
    # Each |x_i| s / ||x|| lies within one of |l_i|, at least 0 and at most s, and these have l2 norm s.
    low = sum(max(abs(level) - 1, 0) ** 2 for level in levels)
    high = sum(min(abs(level) + 1, 4) ** 2 for level in levels)
    if low < 4**2 <= high:
        q.check(payload)
        assert q.norm(payload, 2) <= norm * (1 + math.sqrt(d) / 4) * (1 + 1e-12)
    else:
        with pytest.raises(WireError, match="no vector of the announced norm"):
            q.check(payload)


@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
def test_qsgd_refuses_a_unit_that_overflows_though_all_levels_are_zero(dtype: torch.dtype) -> None:
    q = QSGD(levels=1, bucket=None)  # found by the fuzzer: zero times infinity
    payload = q.compress(torch.zeros(1, dtype=dtype), rng())
    with pytest.raises(WireError, match=r"overflows|finite"):
        q.check(replace(payload, scalars=(payload.scalars[0], 1e308 if dtype != torch.float64 else math.inf)))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_second_entry_is_packed_whatever_its_stride(count: int) -> None:
    flat = torch.arange(2.0 * count)[1::2]
    assert torch.equal(values_from_bytes(values_to_bytes(flat), flat.dtype), flat)
