"""Zeros stay zero, under every compressor; a vector without zeros costs nothing more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, LowRank, NonZeros, Sign, TopK, keeping_zeros
from flwr_robustcomp.errors import ConfigurationError, WireError
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng

every = pytest.mark.parametrize("compressor", ALL, ids=repr)
vectors_only = pytest.mark.parametrize("compressor", [q for q in ALL if not q.wants_matrices], ids=repr)


@vectors_only
@given(
    dtype=st.sampled_from(DTYPE_LIST),
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 70),
    share=st.floats(0, 1),
    round_=st.integers(0, 3),
)
def test_zeros_stay_zero(compressor: Compressor, dtype: torch.dtype, seed: int, d: int, share: float, round_: int) -> None:
    draws = np.random.default_rng(seed)
    x = gaussian(d, dtype, seed)
    x[torch.from_numpy(draws.random(d) < share)] = 0
    if isinstance(compressor, TopK) and compressor.k is not None and d < compressor.k:
        return
    q = keeping_zeros(compressor, ((d,),)).for_round(round_)
    assert not bool(q.decompress(q.compress(x, draws))[x == 0].any())


@every
def test_rows_and_columns_of_zeros_stay_zero(compressor: Compressor) -> None:
    for live, dtype in itertools.product([0, 1, 2, 5], DTYPE_LIST):
        x = gaussian(48, dtype).reshape(6, 8)
        x[live:] = 0
        x[:, 1::3] = 0
        q = keeping_zeros(compressor)
        payload = q.compress(x, rng())
        back = q.decompress(payload)
        assert not bool(back[live:].any() or back[:, 1::3].any())
        array = wire.pack(payload, q)
        assert wire.read_packed(array, q, (6, 8), dtype) == payload


@every
def test_a_server_reads_both_forms(compressor: Compressor) -> None:
    x = gaussian(48, torch.float32).reshape(6, 8)
    plain = wire.pack(compressor.compress(x, rng()), compressor)
    reader = keeping_zeros(compressor, reading=True)
    payload = wire.read_packed(plain, reader, (6, 8), torch.float32)
    assert torch.equal(reader.decompress(payload), compressor.decompress(compressor.compress(x, rng())))
    assert wire.pack(payload, reader).data == plain.data


@given(st.lists(st.floats(0.5, 2), min_size=1, max_size=40))
def test_without_zeros_the_bytes_are_those_of_the_compressor(values: list[float]) -> None:
    x = torch.tensor(values)
    q = NonZeros(Drive())
    mine, plain = wire.pack(q.compress(x), q), wire.pack(Drive().compress(x), Drive())
    assert (mine.stype, mine.data) == (plain.stype, plain.data)


def test_one_zero_more_costs_a_support() -> None:
    x = gaussian(4096, torch.float32)
    x[7] = 0
    q = NonZeros(L1Sign())
    array = wire.pack(q.compress(x), q)
    assert array.stype == "robustcomp/non-zeros+l1-sign/1"
    assert len(array.data) <= len(wire.pack(L1Sign().compress(x), L1Sign()).data) + 12


def test_a_compressor_that_keeps_zeros_is_left_alone() -> None:
    for compressor in (Identity(), TopK(k=3), L1Sign(plus_zero=True), Sign(plus_zero=True)):
        assert keeping_zeros(compressor, ((3,),)) is compressor
    assert keeping_zeros(L1Sign(plus_zero=True), reading=True) == NonZeros(L1Sign(plus_zero=True))


def test_the_paper_sends_zeros_as_plus_one() -> None:
    q = keeping_zeros(L1Sign(plus_zero=True))
    assert q.decompress(q.compress(torch.tensor([0.0, 4.0]))).tolist() == [2.0, 2.0]


def test_top_k_keeps_as_many_of_fewer_entries() -> None:
    x = torch.zeros(100)
    x[::10] = gaussian(10, torch.float32)
    q = keeping_zeros(TopK(k=5, values=L1Sign()))
    assert int((q.decompress(q.compress(x)) != 0).sum()) == 5
    q = keeping_zeros(TopK(k=50, values=L1Sign()))
    assert int((q.decompress(q.compress(x)) != 0).sum()) == 10


@pytest.mark.parametrize("values", [LowRank(rank=1), NonZeros(), "l1-sign"], ids=["matrices", "itself", "text"])
def test_what_it_cannot_wrap_is_refused(values: Compressor) -> None:
    with pytest.raises(ConfigurationError, match="values must be a compressor of vectors"):
        NonZeros(values)


def _array() -> tuple[NonZeros, Array]:
    q = NonZeros(L1Sign(), ((2, 3), (2,)))
    return q, wire.pack(q.compress(torch.tensor([1.0, 0.0, 2.0, -3.0, 0.0, 4.0, 5.0, -6.0])), q)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: (200).to_bytes(4, "little") + data[4:], "the support must be at most"),
        (lambda data: (0).to_bytes(4, "little") + data[4:], "this payload must be sent as 'l1-sign'"),
        (lambda data: data[:-1], "the values of 6 entries must take 1 bytes, got 0"),
        (lambda data: data + b"\0", "must take 1 bytes, got 2|data must be"),
    ],
)
def test_other_lengths_are_refused(change: Callable[[bytes], bytes], why: str) -> None:
    q, array = _array()
    bad = Array(array.dtype, array.shape, array.stype, change(array.data))
    with pytest.raises(WireError, match=why):
        wire.read_packed(bad, q, (8,), torch.float32)


def test_a_support_of_everything_is_refused() -> None:
    q, _ = _array()
    payload = q.compress(gaussian(8, torch.float32))
    support = b"\0"  # both arrays whole
    with pytest.raises(WireError, match="without zeros is sent without a support"):
        q.check(replace(payload, scalars=(1, *payload.scalars[1:]), body=support + payload.body))


def test_values_behind_an_empty_support_are_refused() -> None:
    q, _ = _array()
    payload = q.compress(torch.zeros(8))
    q.check(payload)
    with pytest.raises(WireError, match="a zero vector is sent without values"):
        q.check(replace(payload, body=payload.body + b"\1"))


@pytest.mark.parametrize("inner", [L1Sign(), Drive(), Sign()], ids=repr)
def test_sums_and_products_of_supports_that_differ(inner: Compressor) -> None:
    q = NonZeros(inner, ((5, 7), (3,)))
    xs = [gaussian(38, torch.float32, seed) for seed in range(9)]
    for i, x in enumerate(xs):
        if i % 3:
            x[(i % 3) :: 3] = 0
    xs.append(torch.zeros(38))
    payloads = [q.compress(x) for x in xs]
    dense = q.decompress_rows(payloads)
    assert torch.equal(dense, torch.stack([q.decompress(p) for p in payloads]))
    out, weights = torch.zeros(38), np.random.default_rng(0).random(10).tolist()
    q.accumulate(out, payloads, weights)
    assert torch.allclose(out, torch.tensor(weights) @ dense, atol=1e-5)
    gram = q.inner_products(payloads)
    assert np.allclose(gram, (dense.double() @ dense.double().T).numpy(), atol=1e-4)
    assert np.allclose(np.sqrt(np.diag(gram)), [q.norm(p) for p in payloads], rtol=1e-5)
    assert torch.equal(out[(dense == 0).all(dim=0)], torch.zeros(int((dense == 0).all(dim=0).sum())))
