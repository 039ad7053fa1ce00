"""The contract of `Compressor`, held by every configuration of every registered compressor."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import (
    NORM_ORDERS,
    QSGD,
    Compressor,
    L1Sign,
    Payload,
    RandomK,
    RotatedQuantizer,
    Sign,
    TopK,
    vector_norm,
    working_dtype,
)
from flwr_robustcomp.errors import WireError
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng, tolerance, vectors

every = pytest.mark.parametrize("compressor", ALL, ids=repr)
few = settings(max_examples=20)
"""For each of many configurations: what they share is tried more than a thousand times."""


def _squares(compressor: Compressor, x: Tensor, draws: int) -> tuple[float, float]:
    """Return the mean of ||Q(x) - x||^2 over draws, each in a round of its own, and three standard errors of it."""
    generator, dense = rng(1), x.double()
    rounds = [compressor.for_round(round_) for round_ in range(draws)]
    errors = [float((q.decompress(q.compress(x, generator)).double() - dense).square().sum()) for q in rounds]
    return float(np.mean(errors)), 3 * float(np.std(errors)) / math.sqrt(draws)


@pytest.mark.parametrize("compressor", [one for one in ALL if one.keeps_zeros], ids=repr)
@few
@given(x=vectors())
def test_a_compressor_that_says_so_keeps_zeros(compressor: Compressor, x: Tensor) -> None:
    assert not bool(compressor.decompress(compressor.compress(x, rng()))[x == 0].any())


@every
@few
@given(x=vectors())
def test_shape_dtype_and_length(compressor: Compressor, x: Tensor) -> None:
    compressor.delta(x.numel())
    payload = compressor.compress(x, rng())
    q = compressor.decompress(payload)
    assert (q.shape, q.dtype) == (x.shape, x.dtype)
    assert bool(torch.isfinite(q).all())
    size, packed = compressor.body_size(x.numel(), x.dtype), len(wire.pack(payload, compressor).data)
    assert len(payload.body) == size if compressor.exact_size else len(payload.body) <= size
    form, sent = compressor.sent_as(payload)
    header = struct.calcsize(form.header)
    assert packed == header + len(sent.body)
    assert header <= struct.calcsize(compressor.header) == compressor.encoded_size(x.numel(), x.dtype) - size
    assert header < 32


@every
@few
@given(x=vectors())
def test_the_wire_is_bit_exact(compressor: Compressor, x: Tensor) -> None:
    payload = compressor.compress(x, rng())
    array = wire.pack(payload, compressor)
    assert wire.read_packed(array, compressor, tuple(x.shape), x.dtype) == payload
    read_by_itself, same = wire.unpack_trusted(array)
    assert same == compressor.sent_as(payload)[1]
    assert torch.equal(read_by_itself.decompress(same), compressor.decompress(payload))


@pytest.mark.parametrize("compressor", [one for one in ALL if one.pointwise], ids=repr)
@given(x=vectors())
def test_deterministic_delta_holds_for_every_vector(compressor: Compressor, x: Tensor) -> None:
    delta = compressor.delta(x.numel())
    if delta is None:
        return
    slack = tolerance(x.dtype) + (0.01 if x.dtype.itemsize == 2 else 0)
    if energy := float(x.double().square().sum()):  # entries near the dtype's subnormals round by as much as they are
        slack += x.numel() * (torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps) ** 2 / energy
    assert compressor.measured_delta(x) >= delta - slack


@pytest.mark.parametrize("compressor", [one for one in ALL if one.projects], ids=repr)
@given(
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**16),
    d=st.integers(1, 300),
    heavy=st.booleans(),
)
def test_projections_are_orthogonal(compressor: Compressor, dtype: torch.dtype, seed: int, d: int, heavy: bool) -> None:
    x = gaussian(d, dtype, seed)
    x = x**5 if heavy else x
    dense = compressor.decompress(compressor.compress(x, rng(seed))).double()
    product, energy = float(x.double() @ dense), float(dense.square().sum())
    assert product == pytest.approx(energy, rel=1e-5, abs=1e-5 * float(x.double().square().sum()))
    assert compressor.norm(compressor.compress(x, rng(seed))) ** 2 == pytest.approx(energy, rel=1e-5)


def test_some_compressors_project_and_some_do_not() -> None:
    assert L1Sign().projects and TopK(k=1).projects and TopK(k=1, values=L1Sign()).projects and RandomK(k=1).projects
    assert not (Sign().projects or TopK(k=1, values=QSGD()).projects or RandomK(k=1, unbiased=True).projects)


@every
@pytest.mark.parametrize("heavy", [False, True], ids=["gaussian", "heavy-tailed"])
def test_delta_holds_in_expectation(compressor: Compressor, heavy: bool) -> None:
    x = gaussian(60, torch.float64)
    x = x**5 if heavy else x
    delta = compressor.delta(60)
    if delta is None:
        return
    assert 0 < delta <= 1
    mean, error = _squares(compressor, x, draws=1 if compressor.pointwise else 150)
    assert mean <= (1 - delta + 1e-12) * float(x.square().sum()) + error


UNBIASED = [
    *((compressor, 1000) for compressor in ALL if compressor.unbiased and getattr(compressor, "coding", "fixed") == "fixed"),
    *((QSGD(levels=levels, contraction=False, coding="fixed"), 2000) for levels in (1, 3, 16)),
    *((RotatedQuantizer(levels=levels, contraction=False), 2000) for levels in (2, 5, 16)),
    (RandomK(k=5, unbiased=True), 2000),
]
"""With a number of draws. Another coding has the same vectors, and takes longer."""


@pytest.mark.parametrize(("compressor", "count"), UNBIASED, ids=repr)
def test_the_mean_of_an_unbiased_compressor_is_the_vector(compressor: Compressor, count: int) -> None:
    assert compressor.unbiased
    x = gaussian(30, torch.float64)
    draws = torch.stack([compressor.decompress(compressor.compress(x, rng(seed))) for seed in range(count)])
    rare = 4 * float((draws - x).abs().max()) / count  # of a value that is drawn once in thousands of times, or not at all
    error = 4 * draws.std(dim=0, correction=0) / math.sqrt(count) + rare
    assert bool(((draws.mean(dim=0) - x).abs() <= error + 1e-12).all())
    if (omega := getattr(compressor, "omega", None)) and compressor.for_round(1) == compressor:  # else it is over rounds
        assert float((draws - x).square().sum(dim=1).mean()) <= omega(30) * float(x.square().sum()) * 1.05


@every
def test_rows_are_compressed_as_single_vectors_are(compressor: Compressor) -> None:
    for d, dtype in itertools.product([1, 7, 8, 9, 257], DTYPE_LIST):
        x = torch.stack([gaussian(d, dtype, seed) for seed in range(5)])
        rows = compressor.compress_rows(x, [rng(seed) for seed in range(5)])
        assert rows == [compressor.compress(row, rng(seed)) for seed, row in enumerate(x)]
        dense = compressor.decompress_rows(rows)
        assert torch.equal(dense, torch.stack([compressor.decompress(p) for p in rows]))


@every
def test_accumulate_is_the_weighted_sum(compressor: Compressor) -> None:
    for d, dtype in itertools.product([1, 9, 1030], DTYPE_LIST):
        payloads = [compressor.compress(gaussian(d, dtype, seed), rng(seed)) for seed in range(12)]
        weights = rng(5).random(12).tolist()
        out = torch.ones(d, dtype=working_dtype(dtype))
        compressor.accumulate(out, payloads, weights)
        wanted = 1 + sum(w * compressor.decompress(p).double() for p, w in zip(payloads, weights, strict=True))
        assert torch.allclose(
            out.double(), wanted, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=3e-2 if dtype.itemsize == 2 else 1e-5
        )


@every
def test_accumulate_nothing_changes_nothing(compressor: Compressor) -> None:
    out = torch.ones(10)
    compressor.accumulate(out, [], [])
    assert torch.equal(out, torch.ones(10))


@every
@few
@given(x=vectors(), order=st.sampled_from(NORM_ORDERS))
def test_norms(compressor: Compressor, x: Tensor, order: float) -> None:
    payload = compressor.compress(x, rng())
    dense = compressor.decompress(payload)
    # Rounding is relative, but no finer than the step between the subnormals of the dtype.
    grain = dense.numel() * torch.finfo(x.dtype).smallest_normal * torch.finfo(x.dtype).eps
    assert compressor.norm(payload, order) == pytest.approx(
        vector_norm(dense, order), rel=2e-2 if x.dtype.itemsize == 2 else 1e-5, abs=grain
    )
    low, high = compressor.norm_bounds(payload, order)
    slack = tolerance(x.dtype) * 4
    assert low * (1 - slack) - 1e-4 <= vector_norm(x, order) <= high * (1 + slack) + 1e-4


@every
def test_a_zero_vector_becomes_zero(compressor: Compressor) -> None:
    q = compressor.decompress(compressor.compress(torch.zeros(11), rng()))
    if compressor.embeds_norm or compressor.keeps_zeros:
        assert torch.equal(q, torch.zeros(11))
    else:
        assert torch.equal(q, torch.ones(11))  # sign(0) = +1 at a norm that is not sent


@every
@pytest.mark.parametrize(
    ("x", "named"),
    [
        (torch.tensor([1.0, math.nan]), "x must be finite"),
        (torch.tensor([1.0, -math.inf]), "x must be finite"),
        (torch.tensor([]), "number of entries of x must be at least 1, got 0"),
        (torch.tensor([1, 2]), "dtype of x must be one of float16, bfloat16, float32, float64, got torch.int64"),
    ],
    ids=["nan", "inf", "empty", "integers"],
)
def test_bad_vectors_are_refused(compressor: Compressor, x: Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        compressor.compress(x, rng())


@every
def test_a_sum_that_overflows_is_not_mistaken_for_nan(compressor: Compressor) -> None:
    x = torch.full((8,), 2e38)
    assert compressor.compress(x, rng()).shape == (8,)


@every
def test_memory_layout_does_not_matter(compressor: Compressor) -> None:
    x = gaussian(48).reshape(6, 8)
    assert compressor.compress(x.T, rng()) == compressor.compress(x.T.contiguous(), rng())


@every
def test_randomness_is_asked_for_where_it_is_needed(compressor: Compressor) -> None:
    if compressor.randomized:
        with pytest.raises(ValueError, match="rng must be a numpy Generator"):
            compressor.compress(gaussian(5))
    else:
        assert compressor.compress(gaussian(5)) == compressor.compress(gaussian(5), rng(9))


def _read_or_refuse(data: bytes, compressor: Compressor, like: Payload) -> None:
    """A decoder gives a wire error, or a payload that writes back to the very same bytes and decodes to finite numbers."""
    array = wire.pack(like, compressor)
    array.data = data
    try:
        payload = wire.read_packed(array, compressor, like.shape, like.dtype)
    except WireError:
        return
    assert wire.pack(payload, compressor).data == data
    assert bool(torch.isfinite(compressor.decompress(payload)).all())
    assert math.isfinite(compressor.norm(payload, 2))


@every
@given(noise=st.binary(max_size=120), dtype=st.sampled_from(DTYPE_LIST))
def test_random_bytes(compressor: Compressor, noise: bytes, dtype: torch.dtype) -> None:
    like = compressor.compress(gaussian(23, dtype), rng())
    _read_or_refuse(noise, compressor, like)
    size = compressor.encoded_size(23, dtype)
    _read_or_refuse((noise * size)[:size].ljust(size, b"\0"), compressor, like)


@every
@given(place=st.integers(0, 10**6), flip=st.integers(1, 255), dtype=st.sampled_from(DTYPE_LIST), d=st.integers(1, 40))
def test_mutated_bytes(compressor: Compressor, place: int, flip: int, dtype: torch.dtype, d: int) -> None:
    like = compressor.compress(gaussian(d, dtype), rng())
    data = bytearray(wire.pack(like, compressor).data)
    data[place % len(data)] ^= flip
    _read_or_refuse(bytes(data), compressor, like)


@every
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_wrong_lengths_are_refused(compressor: Compressor, change: int) -> None:
    payload = compressor.compress(gaussian(23), rng())
    array = wire.pack(payload, compressor)
    array.data = array.data[:change] if change < 0 else array.data + bytes(change)
    with pytest.raises(WireError, match="data must be" if compressor.exact_size or change > 100 else None):
        wire.read_packed(array, compressor, payload.shape, payload.dtype)
