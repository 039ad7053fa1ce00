"""The rotation where BLAS adds in another order: the golden bytes hold, other vectors move by roundings, no decision does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor, Drive, Payload, RotatedQuantizer
from flwr_robustcomp.compressors.rotation import hadamard, rotate
from tests.compressors.samples import gaussian, rng
from tests.compressors.test_golden import GOLDEN, X
from tests.machines.doubles import with_other_rotation

ROTATED = [name for name in GOLDEN if name.startswith(("drive", "eden", "rotated-quantizer"))]


@pytest.mark.parametrize("name", ROTATED)
def test_golden_bytes_hold_for_every_order_of_additions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compressor, dtype, golden = GOLDEN[name]
    calls = with_other_rotation(monkeypatch)
    assert wire.pack(compressor.compress(X.to(dtype), rng(0)), compressor).data.hex() == golden
    assert bool(calls) == (name != "drive-plain")


@given(exponent=st.integers(0, 12), seed=st.integers(0, 9))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_of_few_bits_are_rotated_alike(dtype: type[np.floating], exponent: int, seed: int) -> None:
    x = rng(seed).integers(-100, 100, (2, 1 << exponent)).astype(dtype) / 8
    with pytest.MonkeyPatch.context() as patch:
        here = hadamard(x)
        with_other_rotation(patch)
        assert np.array_equal(hadamard(x), here)


@pytest.mark.parametrize("size", [2, 8, 64, 512, 4096])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_others_move_by_roundings(dtype: type[np.floating], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rng(size).standard_normal((5, size)).astype(dtype)
    here = hadamard(x)
    with_other_rotation(monkeypatch)
    there = hadamard(x)
    if size >= 64 and dtype == np.float32:
        assert not np.array_equal(here, there)  # otherwise the double would show nothing
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    assert (np.abs(here - there) <= 2 * np.sqrt(size) * np.finfo(dtype).eps / 2 * lengths).all()


def test_a_sign_differs_only_where_the_coordinate_is_a_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor, d = Drive(seed=3).for_round(4), 3 * 4096 + 700
    x = gaussian(d)
    here, y = compressor.compress(x), rotate(x.numpy(), 3, 4)
    with_other_rotation(monkeypatch)
    there = compressor.compress(x)
    assert np.allclose(compressor._scales(here), compressor._scales(there), rtol=1e-6)
    changed = compressor._bits(here) != compressor._bits(there)
    assert np.abs(y[changed]).max(initial=0.0) <= 1e-5
    assert changed.mean() < 1e-3


QUESTIONS: dict[str, Callable[[Compressor, list[Payload]], object]] = {
    "norm": lambda one, payloads: [one.norm(p) for p in payloads],
    "norm_bounds": lambda one, payloads: [one.norm_bounds(p, q) for p in payloads for q in (1, 2, np.inf)],
    "inner_products": lambda one, payloads: one.inner_products(payloads).tolist(),
    "check": lambda one, payloads: [one.check(p) for p in payloads],
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("compressor", [Drive(), RotatedQuantizer()], ids=repr)
def test_nothing_that_decides_rotates(compressor: Compressor, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [compressor.compress(gaussian(5000, seed=seed), rng(seed)) for seed in range(3)]

    def never(*_: object) -> None:
        raise AssertionError("rotated")

    monkeypatch.setattr(np, "matmul", never)
    QUESTIONS[question](compressor, payloads)


def test_what_is_decoded_there_is_what_is_decoded_here_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = Drive()
    payload = compressor.compress(gaussian(9000))
    here = compressor.decompress(payload)
    with_other_rotation(monkeypatch)
    assert torch.allclose(here, compressor.decompress(payload), rtol=0, atol=1e-5 * float(here.abs().max()))
