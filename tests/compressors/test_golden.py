"""Golden bytes: every codec of the wire format, for readers in any language. A change here needs a new version there."""

from __future__ import annotations

import pytest
import torch
from flwr.app import Array

from benchmarks.parts.compressors import TYPICAL
from flwr_robustcomp import wire
from flwr_robustcomp.compressors import (
    COMPRESSORS,
    QSGD,
    Compressor,
    CrossPolytope,
    Drive,
    Eden,
    Identity,
    L1Sign,
    LowRank,
    NonZeros,
    RandomK,
    RotatedQuantizer,
    Sign,
    SparseTernary,
    SphericalNet,
    TernGrad,
    TopK,
)
from flwr_robustcomp.theory import label
from tests.compressors.samples import rng

X = torch.tensor([1.0, -2.0, 3.0, 0.0, -0.5, 0.25, 4.0, -8.0, 0.125])
"""Mean magnitude 18.875 / 9 = 2.0972...; signs + - + + - + + - +, so bits 1, 01101101: bytes 6d 01. With QSGD(4) the levels are
0 -1 1 0 0 0 1 -4 1, so nibbles 4 3 5 4 4 4 5 0 5: bytes 34 45 44 05 05."""

LONG = torch.cat([X, torch.zeros(87), X])
"""d = 105: long enough for the entropy coder to win."""

GOLDEN: dict[str, tuple[Compressor, torch.dtype, str]] = {
    "cross-polytope-3": (CrossPolytope(3), torch.float32, "07000000" + "0000000000e03240" + "803c"),
    "cross-polytope-3-unbiased": (CrossPolytope(3, contraction=False), torch.float32, "06000000" + "0000000000e03240" + "803c"),
    "drive-f32": (
        Drive(seed=7).for_round(2),
        torch.float32,
        "0700000000000000" + "02000000" + "01" + "4cbf41400000003e" + "2900",
    ),
    "drive-f16": (Drive(seed=7).for_round(2), torch.float16, "0700000000000000" + "02000000" + "01" + "0e420030" + "2900"),
    "drive-plain": (
        Drive(rotate=False, unbiased_scale=True),
        torch.float32,
        "0000000000000000" + "00000000" + "02" + "a8eb9f40" + "6d01",
    ),
    "eden-2": (
        Eden(seed=7).for_round(2),
        torch.float32,
        "0700000000000000" + "02000000" + "02" + "1f2640401090a93d" + "c61d00",
    ),
    "eden-3": (
        Eden(bits=3, seed=7).for_round(2),
        torch.float32,
        "0700000000000000" + "02000000" + "03" + "ebd56b40fb57293e" + "943c2f02",
    ),
    "eden-8-bf16": (
        Eden(bits=8, seed=7).for_round(2),
        torch.bfloat16,
        "0700000000000000" + "02000000" + "08" + "5c40fe3d" + "995547bd66d1723047",
    ),
    "identity-f32": (Identity(), torch.float32, "0000803f000000c00000404000000000000000bf0000803e00008040000000c10000003e"),
    "identity-bf16": (Identity(), torch.bfloat16, "803f00c04040000000bf803e804000c1003e"),
    "sign": (Sign(), torch.float32, "6d01"),
    "l1-sign-f32": (L1Sign(), torch.float32, "000000801cc700406d01"),
    "l1-sign-f64": (L1Sign(), torch.float64, "721cc7711cc700406d01"),
    "l1-sign-f16": (L1Sign(), torch.float16, "0000000000c800406d01"),
    "non-zeros": (
        NonZeros(),  # one row, holed, with an exception at 3: 8 entries of mean magnitude 2.359375, signs + - + - + + - +
        torch.float32,
        "09000000" + "0000000000e00240" + "02" + "01020001" + "01020003" + "b5",
    ),
    "non-zeros-of-two-arrays": (
        NonZeros(L1Sign(), ((2, 4), (1,))),  # "some", "all"; no sides gone, row 0 holed, none in others, the same exception
        torch.float32,
        "0b000000" + "0000000000e00240" + "02" + "00" + "01020000" + "00" + "01020003" + "b5",
    ),
    "non-zeros-drive": (
        NonZeros(Drive(seed=7)).for_round(2),
        torch.float32,
        "09000000" + "0700000000000000" + "02000000" + "01" + "02" + "01020001" + "01020003" + "f3043540" + "c3",
    ),
    "sparse-ternary-3": (
        SparseTernary(k=3),
        torch.float32,
        "03000000" + "01" + "0000000000001440" + "02000000" + "01000000" + "03" + "00" + "c400",
    ),
    "sparse-ternary-3-fixed": (
        SparseTernary(k=3, coding="fixed"),
        torch.float32,
        "03000000" + "00" + "0000000000001440" + "03" + "c400",
    ),
    "tern-grad": (
        TernGrad(contraction=True, bucket=None),
        torch.float32,
        "03" + "0000000000000000" + "0000000000001040" + "00" + "0000" + "8000",
    ),
    "tern-grad-fixed": (
        TernGrad(contraction=False, coding="fixed", bucket=None),
        torch.float32,
        "00" + "0000000000000000" + "0000000000002040" + "0000" + "8000",
    ),
    "top-2": (TopK(k=2), torch.float32, "02000000" + "01" + "00" + "76" + "00008040000000c1"),
    "top-2-fixed": (TopK(k=2, coding="fixed"), torch.float32, "02000000" + "00" + "76" + "00008040000000c1"),
    "top-3-signs": (
        TopK(k=3, values=L1Sign()),
        torch.float32,
        "03000000" + "01" + "03000000" + "00" + "c400" + "0000000000001440" + "03",
    ),
    "top-8-bitmap": (
        TopK(k=8, coding="fixed"),
        torch.float32,
        "08000000" + "00" + "f701" + "0000803f000000c000004040000000bf0000803e00008040000000c10000003e",
    ),
    "random-2": (RandomK(k=2), torch.float32, "02000000" + "00" + "5f82c2d9cfeb0fa3" + "000000000000003e"),
    "random-2-unbiased": (
        RandomK(k=2, unbiased=True),
        torch.float32,
        "02000000" + "01" + "5f82c2d9cfeb0fa3" + "000000000000003e",
    ),
    "qsgd-4": (
        QSGD(levels=4, contraction=True, bucket=None),
        torch.float32,
        "13000000" + "9d6d7f39ae6c2340" + "00" + "4445440504",
    ),
    "qsgd-4-fixed": (
        QSGD(levels=4, contraction=True, coding="fixed", bucket=None),
        torch.float32,
        "11000000" + "9d6d7f39ae6c2340" + "4445440504",
    ),
    "qsgd-4-unbiased": (
        QSGD(levels=4, contraction=False, coding="fixed", bucket=None),
        torch.float32,
        "10000000" + "9d6d7f39ae6c2340" + "4445440504",
    ),
    "rotated-quantizer-4": (
        RotatedQuantizer(levels=4, seed=7).for_round(2),
        torch.float32,
        "0700000000000000" + "02000000" + "09000000" + "90e0a6c0b888ac40000000be000000be" + "c62d00",
    ),
    "rotated-quantizer-4-unbiased": (
        RotatedQuantizer(levels=4, contraction=False),
        torch.float32,
        "0000000000000000" + "00000000" + "08000000" + "b888acc090e0a640000000be000000be" + "8bbd00",
    ),
    "spherical-net": (
        SphericalNet(block=4, bits=4, seed=7),
        torch.float32,
        "0400" + "04" + "0700000000000000" + "000000a0aaaa0d40" + "7400",
    ),
}


CODED: dict[str, tuple[Compressor, str]] = {
    "qsgd-4": (
        QSGD(levels=4, contraction=True, bucket=None),
        "13000000" + "baf6f5aa6e782b40" + "01" + "01000500" + "8180600c" + "de5959bedab39db3",
    ),
    "tern-grad-clipped": (
        TernGrad(contraction=True, clip=2.5, bucket=None),
        "03" + "0000000000000440" + "000000e0a411e33f" + "01" + "00000200" + "0431" + "4c54821b39428591",
    ),
    "sparse-ternary-18": (
        SparseTernary(k=18),
        "12000000" + "01" + "000000801cc70040" + "0c000000" + "03000000" + "6dd702" + "01" + "ff0300807f0000200400",
    ),
    "top-4-rice": (TopK(k=4), "04000000" + "01" + "00" + "8683f90c" + "00008040000000c1" + "00008040000000c1"),
}

VERSIONS = {name: 2 if name in ("low-rank", "qsgd", "top-k") else 1 for name in COMPRESSORS}


def test_every_codec_has_golden_bytes() -> None:
    golden = {compressor.name for compressor, _, _ in GOLDEN.values()} | {"low-rank"}  # read from `FACTORS`
    new = [compressor for name, compressor in TYPICAL.items() if name not in golden]
    lines = [f'"{q.name}": ({label(q)}, torch.float32, "{wire.pack(q.compress(X, rng(0)), q).data.hex()}"),' for q in new]
    assert not lines, f"add to GOLDEN, once the form is final: {lines}"
    assert {name: cls.version for name, cls in COMPRESSORS.items()} == VERSIONS


@pytest.mark.parametrize("name", CODED)
def test_golden_bytes_of_the_coded_forms(name: str) -> None:
    compressor, golden = CODED[name]
    assert wire.pack(compressor.compress(LONG, rng(0)), compressor).data.hex() == golden


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    compressor, dtype, golden = GOLDEN[name]
    array = wire.pack(compressor.compress(X.to(dtype), rng(0)), compressor)
    assert array.data.hex() == golden
    assert array.stype == f"robustcomp/{compressor.codec}/{VERSIONS[compressor.name]}"


FACTORS = "0200" + "01" + "01" + "0000803f" + "00000000" * 2 + "0000803f" + "00000000" * 2 + "00004040000000bf0000803e00008040"
"""LowRank(2, method="atomo") of a (3, 2) matrix: P has the columns (1, 0, 0), (0, 1, 0), and Q the rows (3, -1/2), (1/4, 4)."""


def test_factors_are_read_from_golden_bytes() -> None:
    # Written ones have signs and last bits of the processor's (docs/adr/0029).
    compressor, data = LowRank(2, method="atomo"), bytes.fromhex(FACTORS)
    array = Array("float32", (3, 2), "robustcomp/low-rank/2", data)
    payload = wire.read_packed(array, compressor, (3, 2), torch.float32)
    assert compressor.decompress(payload).tolist() == [[3.0, 0.25], [-0.5, 4.0], [0.0, 0.0]]
    written = wire.pack(compressor.compress(compressor.decompress(payload), rng(0)), compressor)
    assert (written.stype, len(written.data), written.data[:4]) == (array.stype, len(data), data[:4])
