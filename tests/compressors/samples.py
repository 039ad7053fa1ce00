"""At least one configuration of every registered compressor, and the vectors they are tried on."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from flwr_robustcomp.compressors import (
    COMPRESSORS,
    DTYPES,
    QSGD,
    Compressor,
    CrossPolytope,
    Drive,
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

SAMPLES: dict[str, list[Compressor]] = {
    "cross-polytope": [CrossPolytope(), CrossPolytope(repetitions=40), CrossPolytope(repetitions=90, contraction=False)],
    "drive": [Drive(), Drive(unbiased_scale=True, seed=5).for_round(3), Drive(rotate=False)],
    "identity": [Identity()],
    "l1-sign": [L1Sign()],
    "low-rank": [LowRank(rank=1), LowRank(rank=1, method="power", iterations=2), LowRank(rank=1, method="atomo")],
    "non-zeros": [
        NonZeros(),
        NonZeros(Sign()),
        NonZeros(Drive()),
        NonZeros(RotatedQuantizer(levels=4)),
        NonZeros(SphericalNet(block=5, bits=4, seed=9)),
        NonZeros(TopK(ratio=0.3, values=L1Sign())),
        NonZeros(SparseTernary(ratio=0.3)),
    ],
    "qsgd": [
        QSGD(),
        QSGD(levels=1, contraction=True),
        QSGD(levels=4, contraction=True, coding="fixed"),
        QSGD(levels=300),
        QSGD(levels=7, contraction=False),
        QSGD(levels=300, coding="fixed"),
        QSGD(levels=4, contraction=True, bucket=8),
        QSGD(levels=3, bucket=64, contraction=False),
        QSGD(levels=5, bucket=16, coding="fixed"),
        QSGD(levels=4, contraction=True, bucket=None),
        QSGD(levels=7, contraction=False, bucket=None),
        QSGD(levels=300, coding="fixed", bucket=None),
    ],
    "random-k": [RandomK(k=1), RandomK(ratio=0.3), RandomK(ratio=0.8, unbiased=True)],
    "rotated-quantizer": [
        RotatedQuantizer(),
        RotatedQuantizer(levels=2, seed=5).for_round(3),
        RotatedQuantizer(levels=9, contraction=False),
    ],
    "sign": [Sign()],
    "sparse-ternary": [SparseTernary(k=1), SparseTernary(ratio=0.3), SparseTernary(ratio=0.3, coding="fixed")],
    "spherical-net": [SphericalNet(), SphericalNet(block=1, bits=1), SphericalNet(block=5, bits=4, seed=9)],
    "tern-grad": [
        TernGrad(),
        TernGrad(contraction=True, coding="fixed"),
        TernGrad(contraction=True, clip=2.5),
        TernGrad(clip=0.1, coding="fixed"),
        TernGrad(contraction=True, bucket=8),
        TernGrad(bucket=64),
        TernGrad(coding="fixed", bucket=16),
        TernGrad(contraction=True, clip=2.5, coding="fixed", bucket=128),
        TernGrad(contraction=True, bucket=None),
        TernGrad(coding="fixed", bucket=None),
        TernGrad(contraction=True, clip=2.5, bucket=None),
    ],
    "top-k": [
        TopK(k=1),
        TopK(ratio=0.05, coding="fixed"),
        TopK(ratio=0.5),
        TopK(ratio=1.0),
        TopK(ratio=0.5, coding="fixed"),
        TopK(ratio=0.3, values=QSGD(levels=4)),
        TopK(ratio=0.3, values=L1Sign(), coding="fixed"),
    ],
}

ALL = [compressor for samples in SAMPLES.values() for compressor in samples]
DTYPE_LIST = list(DTYPES.values())

assert SAMPLES.keys() == COMPRESSORS.keys(), "a registered compressor has no sample configuration"

SUMMED_UNROUNDED = ("drive", "low-rank", "non-zeros", "rotated-quantizer", "spherical-net")
"""Compressors whose payloads are added before each is rounded to the model's dtype."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gaussian(d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.from_numpy(rng(seed).standard_normal(d)).to(dtype)


def vectors(max_size: int = 40) -> st.SearchStrategy[Tensor]:
    """Finite vectors of any dtype, moderate in size so that float16 holds their norms."""
    elements = st.floats(-100, 100, width=16)
    arrays = npst.arrays(np.float64, st.integers(1, max_size), elements=elements)
    return st.builds(lambda a, t: torch.from_numpy(a.copy()).to(t), arrays, st.sampled_from(DTYPE_LIST))


def tolerance(dtype: torch.dtype) -> float:
    return 4 * torch.finfo(dtype).eps
