"""Inner products of packed vectors with a dense one, against the decompressed vectors."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import QSGD, Compressor, Drive, L1Sign, NonZeros, Payload, RotatedQuantizer, dots
from flwr_robustcomp.compressors.bits import pack_bits
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng

every = pytest.mark.parametrize("compressor", ALL, ids=repr)

PACKED = [one for one in ALL if type(one).dot is not Compressor.dot]


def _payloads(compressor: Compressor, d: int, dtype: torch.dtype = torch.float32) -> tuple[list[Payload], np.ndarray]:
    payloads = [compressor.compress(gaussian(d, dtype, seed) + 0.3, rng(seed)) for seed in range(7)]
    return payloads, torch.stack([compressor.decompress(p).double() for p in payloads]).numpy()


@every
def test_they_are_those_of_the_vectors(compressor: Compressor) -> None:
    for d, dtype in itertools.product([1, 7, 64, 1003, 5000], DTYPE_LIST):
        payloads, dense = _payloads(compressor, d, dtype)
        x = gaussian(d, torch.float64, seed=99)
        found = compressor.dot(payloads, x)
        assert found.shape == (7,) and found.dtype == np.float64
        slack = 4 * torch.finfo(dtype).eps if dtype.itemsize == 2 else 1e-6
        lengths = np.linalg.norm(dense, axis=1) * float(x.norm())
        assert (np.abs(found - dense @ x.numpy()) <= slack * lengths + 1e-12).all()


@every
def test_the_dense_vector_may_have_any_dtype(compressor: Compressor) -> None:
    payloads, _ = _payloads(compressor, 300)
    for dtype in DTYPE_LIST:
        x = gaussian(300, dtype, seed=5)
        assert np.allclose(compressor.dot(payloads, x), compressor.dot(payloads, x.double()), atol=1e-12)


@every
def test_no_payloads_give_an_empty_vector(compressor: Compressor) -> None:
    assert compressor.dot([], torch.ones(8)).shape == (0,)


@every
def test_blocks_change_nothing(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads, _ = _payloads(compressor, 5000)
    x = gaussian(5000, torch.float64, seed=3)
    whole = compressor.dot(payloads, x)
    for name in ("_COLUMNS", "_BITS", "_ROWS"):
        monkeypatch.setattr(dots, name, 3)
    assert np.allclose(compressor.dot(payloads, x), whole, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("compressor", PACKED, ids=repr)
def test_no_vector_is_decompressed(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads, _ = _payloads(compressor, 300)
    whole = compressor.dot(payloads, gaussian(300))

    def never(*_: object) -> None:
        raise AssertionError("decompressed")

    for name in ("decode", "decompress", "decompress_rows"):
        monkeypatch.setattr(type(compressor), name, never)
    assert np.array_equal(compressor.dot(payloads, gaussian(300)), whole)


@pytest.mark.parametrize("compressor", [Drive(), RotatedQuantizer(), NonZeros(Drive())], ids=repr)
def test_the_dense_vector_is_rotated_once(compressor: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads, _ = _payloads(compressor, 300)
    calls: list[int] = []
    inner = compressor.values if isinstance(compressor, NonZeros) else compressor
    rotate = type(inner)._rotate  # type: ignore[attr-defined]

    def counted(self: Compressor, x: np.ndarray) -> np.ndarray:
        calls.append(x.size)
        found: np.ndarray = rotate(self, x)
        return found

    monkeypatch.setattr(type(inner), "_rotate", counted)
    compressor.dot(payloads, gaussian(300))
    assert calls == [300]


def test_zeros_that_differ_are_multiplied_by_their_own_support() -> None:
    compressor = NonZeros(L1Sign())
    xs = [gaussian(40, seed=seed) * torch.from_numpy(rng(seed).random(40) < 0.5) for seed in range(3)] + [torch.zeros(40)]
    payloads = [compressor.compress(x) for x in xs]
    dense = torch.stack([compressor.decompress(p).double() for p in payloads]).numpy()
    x = gaussian(40, torch.float64, seed=9)
    assert np.allclose(compressor.dot(payloads, x), dense @ x.numpy())


def test_one_decoded_vector_is_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = QSGD()
    payloads, _ = _payloads(compressor, 300)
    decode = QSGD.decode
    decoded: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def watched(self: QSGD, payload: Payload) -> torch.Tensor:
        alive.append(sum(one() is not None for one in decoded))
        found = decode(self, payload)
        decoded.append(weakref.ref(found))
        return found

    monkeypatch.setattr(QSGD, "decode", watched)
    compressor.dot(payloads, gaussian(300))
    assert len(alive) == 7 and max(alive) <= 1


@pytest.mark.parametrize("sizes", [[1], [7], [8, 4, 2, 1], [4096, 904], [40_000]])
def test_signs_are_added_block_by_block(sizes: list[int]) -> None:
    d = sum(sizes)
    signs = np.sign(rng(1).standard_normal((5, d)))
    x = rng(2).standard_normal(d)
    found = dots.sign_dots([pack_bits(row > 0) for row in signs], x, sizes)
    stops = np.cumsum(sizes)
    wanted = [[row[a:b] @ x[a:b] for a, b in zip([0, *stops[:-1]], stops, strict=True)] for row in signs]
    assert np.allclose(found, wanted)
