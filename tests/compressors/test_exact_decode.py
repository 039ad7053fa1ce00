"""Decoding that gives the same bits everywhere: against integers, in another order of additions, and as recorded hashes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from flwr_robustcomp.compressors import Compressor, Drive, Eden, LowRank, NonZeros, Payload, RotatedQuantizer, TopK
from flwr_robustcomp.compressors.eden_levels import UNIT
from flwr_robustcomp.compressors.rotation import block_sizes
from flwr_robustcomp.compressors.scaled_blocks import ScaledBlocks
from flwr_robustcomp.compressors.values import values_to_bytes
from flwr_robustcomp.randomness import random_signs
from tests.compressors.samples import ALL, DTYPE_LIST, gaussian, rng
from tests.machines.doubles import with_other_rotation

SCALED: list[ScaledBlocks] = [Drive(seed=2).for_round(5), *(Eden(bits=bits, seed=2).for_round(5) for bits in (1, 2, 4, 7, 8))]
D = 4096 + 2048 + 64 + 2 + 1


def _butterfly(levels: list[int]) -> list[int]:
    """Return the Hadamard matrix times integers, by additions of Python's integers."""
    half = 1
    while half < len(levels):
        for start in range(0, len(levels), 2 * half):
            for i in range(start, start + half):
                levels[i], levels[i + half] = levels[i] + levels[i + half], levels[i] - levels[i + half]
        half *= 2
    return levels


@pytest.mark.parametrize("dtype", DTYPE_LIST, ids=str)
@pytest.mark.parametrize("q", SCALED, ids=repr)
def test_decoding_is_exact_sums_and_three_products(q: ScaledBlocks, dtype: torch.dtype) -> None:
    payload = q.compress(gaussian(D, dtype))
    kind = np.float64 if dtype == torch.float64 else np.float32
    signs, parts, start = random_signs(q.seed, q.round_, D), [], 0
    levels = (q._levels(payload) * UNIT).astype(np.int64)
    for size, scale in zip(block_sizes(D), q._scales(payload), strict=True):
        exponent = size.bit_length() - 1
        sums = np.array(_butterfly(levels[start : start + size].tolist()), np.float64) / UNIT / 2 ** (exponent // 2)
        part = sums.astype(kind)
        assert (part == sums).all()
        if exponent % 2:
            part = part / 2 * kind(np.sqrt(2.0))
        parts.append(part * signs[start : start + size].astype(kind) * kind(scale))
        start += size
    wanted = torch.from_numpy(np.concatenate(parts)).to(dtype)
    assert values_to_bytes(q.decode(payload)) == values_to_bytes(wanted)


@pytest.mark.parametrize("q", [*(q for q in ALL if q.exact_decode), *SCALED], ids=repr)
def test_another_order_of_additions_gives_the_same_bits(q: Compressor, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [q.compress(gaussian(2053, dtype), rng()) for dtype in DTYPE_LIST]
    here = [values_to_bytes(q.decode(payload)) for payload in payloads]
    with_other_rotation(monkeypatch)
    assert [values_to_bytes(q.decode(payload)) for payload in payloads] == here


def test_one_that_adds_up_floats_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    q = RotatedQuantizer()
    payload = q.compress(gaussian(2053), rng())
    here = q.decode(payload)
    with_other_rotation(monkeypatch)
    assert not torch.equal(q.decode(payload), here)  # the double does show something
    assert not (q.exact_decode or LowRank(1).exact_decode or NonZeros(q).exact_decode or TopK(k=2, values=q).exact_decode)
    assert NonZeros(Eden()).exact_decode and TopK(k=2, values=Drive()).exact_decode


HASHES = {
    "drive-float32": "390c78b164f4909d",
    "drive-bfloat16": "4218a9135a28ba38",
    "eden-2-float32": "53aad5bc69344003",
    "eden-2-bfloat16": "af06c4621d61f8d4",
    "eden-4-float32": "0f0e08b2c8b7043d",
    "eden-4-bfloat16": "083c953e37ca866f",
    "eden-8-float32": "82d12b4d03a99ac9",
    "eden-8-bfloat16": "90174b24ac6645b1",
    "eden-4-float64": "815b5a81e037ad74",
}


def _recorded(q: ScaledBlocks, dtype: torch.dtype) -> Payload:
    """Return a payload of D coordinates that no arithmetic made."""
    size = q.body_size(D, dtype)
    scales = (torch.arange(len(block_sizes(D))) * 0.37 + 0.011).to(dtype)
    packed = values_to_bytes(scales) + hashlib.shake_256(b"codes").digest(size)
    return Payload((D,), dtype, (q.seed, q.round_, 0), packed[:size])


@pytest.mark.parametrize("name", HASHES)
def test_decoded_vectors_have_their_recorded_bits(name: str) -> None:
    kind, dtype = name.rsplit("-", 1)
    q = Drive(seed=7).for_round(2) if kind == "drive" else Eden(bits=int(kind[5:]), seed=7).for_round(2)
    decoded = q.decode(_recorded(q, getattr(torch, dtype)))
    assert hashlib.blake2b(values_to_bytes(decoded), digest_size=8).hexdigest() == HASHES[name]
