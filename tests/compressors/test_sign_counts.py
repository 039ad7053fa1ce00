"""Sign counts from the packed form, against those of the decompressed vector."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flwr_robustcomp.compressors import (
    Compressor,
    L1Sign,
    NonZeros,
    Payload,
    Sign,
    SparseTernary,
    TernGrad,
    TopK,
)
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng, vectors

every = pytest.mark.parametrize("compressor", ALL, ids=repr)


def counted(x: Tensor) -> tuple[int, int, int]:
    """Return the counts of a dense vector, an entry at a time."""
    entries = x.double().reshape(-1).tolist()
    return sum(v < 0 for v in entries), sum(v == 0 for v in entries), sum(v > 0 for v in entries)


def assert_counts(compressor: Compressor, payload: Payload) -> None:
    found = compressor.sign_counts(payload)
    assert found == counted(compressor.decompress(payload))
    assert all(type(count) is int for count in found)


@every
@given(x=vectors(), zeros=st.sampled_from([0.0, -0.0]), share=st.sampled_from([0.0, 0.3, 0.9, 1.0]), seed=st.integers(0, 99))
def test_they_are_those_of_the_vector(compressor: Compressor, x: Tensor, zeros: float, share: float, seed: int) -> None:
    x = torch.where(torch.from_numpy(rng(seed).random(x.numel()) < share), torch.tensor(zeros, dtype=x.dtype), x)
    assert_counts(compressor, compressor.compress(x, rng(seed)))


@every
def test_so_they_are_in_every_dtype_and_size(compressor: Compressor) -> None:
    for d, dtype in itertools.product([1, 8, 63, 1003], DTYPE_LIST):
        for scale in (1.0, float(torch.finfo(dtype).tiny)):  # some magnitudes round to zero
            assert_counts(compressor, compressor.compress((gaussian(d, dtype, d) - 0.3) * scale, rng(d)))


@pytest.mark.parametrize(
    "compressor",
    [
        L1Sign(),
        Sign(),
        TernGrad(),
        TernGrad(coding="fixed"),
        SparseTernary(k=9),
        TopK(k=9, values=L1Sign()),
        NonZeros(L1Sign()),
        NonZeros(TernGrad()),
    ],
    ids=repr,
)
def test_no_vector_is_decoded(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = compressor.compress(gaussian(300).relu(), rng())
    wanted = counted(compressor.decompress(payload))

    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(type(compressor), "decode", never)
    monkeypatch.setattr(type(compressor), "decompress", never)
    assert compressor.sign_counts(payload) == wanted


def test_signs_of_zeros_are_no_signs() -> None:
    x = torch.tensor([-0.0, 0.0, -1.0, 2.0])
    assert NonZeros(L1Sign()).sign_counts(NonZeros(L1Sign()).compress(x)) == (1, 2, 1)
    assert L1Sign().sign_counts(L1Sign().compress(x)) == (1, 0, 3)  # its zeros are sent as +1
    assert np.sum(L1Sign().sign_counts(L1Sign().compress(torch.zeros(9)))) == 9
