"""Golden bytes: version 1 of the wire format, for readers in any language. A change here needs a new version there."""

from __future__ import annotations

import pytest
import torch

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import COMPRESSORS, QSGD, Compressor, Identity, L1Sign, RandomK, Sign, TopK
from tests.compressors.samples import rng

X = torch.tensor([1.0, -2.0, 3.0, 0.0, -0.5, 0.25, 4.0, -8.0, 0.125])
"""Mean magnitude 18.875 / 9 = 2.0972...; signs + - + + - + + - +, so bits 1, 01101101: bytes 6d 01. With QSGD(4) the levels are
0 -1 1 0 0 1 2 -4 0, so nibbles 4 3 5 4 4 5 6 0 4: bytes 34 45 54 06 04."""

GOLDEN: dict[str, tuple[Compressor, torch.dtype, str]] = {
    "identity-f32": (Identity(), torch.float32, "0000803f000000c00000404000000000000000bf0000803e00008040000000c10000003e"),
    "identity-bf16": (Identity(), torch.bfloat16, "803f00c04040000000bf803e804000c1003e"),
    "sign": (Sign(), torch.float32, "6d01"),
    "l1-sign-f32": (L1Sign(), torch.float32, "000000801cc700406d01"),
    "l1-sign-f64": (L1Sign(), torch.float64, "721cc7711cc700406d01"),
    "l1-sign-f16": (L1Sign(), torch.float16, "0000000000c800406d01"),
    "top-2": (TopK(k=2), torch.float32, "02000000" + "76" + "00008040000000c1"),
    "top-8-bitmap": (
        TopK(k=8),
        torch.float32,
        "08000000" + "f701" + "0000803f000000c000004040000000bf0000803e00008040000000c10000003e",
    ),
    "random-2": (RandomK(k=2), torch.float32, "02000000" + "00" + "5f82c2d9cfeb0fa3" + "000000000000003e"),
    "random-2-unbiased": (
        RandomK(k=2, unbiased=True),
        torch.float32,
        "02000000" + "01" + "5f82c2d9cfeb0fa3" + "000000000000003e",
    ),
    "qsgd-4": (QSGD(levels=4), torch.float32, "09000000" + "9d6d7f39ae6c2340" + "3445540604"),
    "qsgd-4-unbiased": (QSGD(levels=4, contraction=False), torch.float32, "08000000" + "9d6d7f39ae6c2340" + "3445540604"),
}


def test_every_codec_has_golden_bytes() -> None:
    assert {compressor.name for compressor, _, _ in GOLDEN.values()} == set(COMPRESSORS)
    assert all(cls.version == 1 for cls in COMPRESSORS.values())


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    compressor, dtype, golden = GOLDEN[name]
    array = wire.pack(compressor.compress(X.to(dtype), rng(0)), compressor)
    assert array.data.hex() == golden
    assert array.stype == f"robustcomp/{compressor.name}/1"
