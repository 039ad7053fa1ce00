"""Configurations of every registered compressor: for the contract suite, for short vectors, for whole models."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from benchmarks.parts.table import filled
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
from flwr_robustcomp.theory import CATALOGUE

__all__ = ["COMPONENTS", "SAMPLES", "TRAINING", "TYPICAL"]

_SAMPLES: dict[str, list[Compressor]] = {
    "cross-polytope": [CrossPolytope(), CrossPolytope(repetitions=40), CrossPolytope(repetitions=90, contraction=False)],
    "drive": [Drive(), Drive(unbiased_scale=True, seed=5).for_round(3), Drive(rotate=False)],
    "eden": [Eden(), Eden(bits=4, seed=5).for_round(3), Eden(bits=8)],
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

SAMPLES = filled(COMPRESSORS, _SAMPLES, lambda part: CATALOGUE[part.name].configurations)
"""What the contract suite tries: at least one configuration of each; by default those of the catalogue."""


def _typical(part: type[Compressor]) -> Compressor:
    try:
        return part()
    except (TypeError, ValueError):
        return CATALOGUE[part.name].configurations[0]


TYPICAL: dict[str, Compressor] = {name: _typical(COMPRESSORS[name]) for name in CATALOGUE}
"""One of each, for vectors of any length: as it is without parameters, or the first of the catalogue."""

TRAINING: dict[str, Compressor] = {
    **{name: samples[0] for name, samples in SAMPLES.items()},
    "non-zeros": NonZeros(SparseTernary(ratio=0.3)),
    "random-k": RandomK(ratio=0.8, unbiased=True),
    "top-k": TopK(ratio=0.3, values=L1Sign(), coding="fixed"),
}
"""One of each, by default the first sample, that sends enough of a model of a hundred weights for it to train."""


def _component(name: str) -> dict[str, Any]:
    """Return a compressor as a scenario names it: the name alone, where that will do."""
    try:
        COMPRESSORS[name]()
    except (TypeError, ValueError):
        typical: Any = TYPICAL[name]
        values = {field.name: getattr(typical, field.name) for field in fields(typical) if field.init}
        return {"name": name, **{key: value for key, value in values.items() if isinstance(value, bool | int | float | str)}}
    return {"name": name}


COMPONENTS: dict[str, dict[str, Any]] = {
    **{name: _component(name) for name in TYPICAL},
    "cross-polytope": {"name": "cross-polytope", "repetitions": 3},
    "low-rank": {"name": "low-rank", "rank": 2, "method": "power"},
    "random-k": {"name": "random-k", "k": 2},
    "rotated-quantizer": {"name": "rotated-quantizer", "levels": 4},
    "sparse-ternary": {"name": "sparse-ternary", "k": 2},
    "spherical-net": {"name": "spherical-net", "block": 4, "bits": 5},
    "top-k": {"name": "top-k", "k": 2},
}
"""One of each as a scenario names it, with parameters that fit vectors of a few entries."""
