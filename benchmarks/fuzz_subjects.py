"""The strategies that whole replies are fuzzed against."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from flwr.serverapp.strategy import Bulyan, FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from benchmarks.parts.strategies import Sample, installed
from flwr_robustcomp import compressors as q
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.filters.length import FACTOR
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.strategies import ByzFL, Decompressed, NormThreshold, Policy, RobustCompressed, SignMajorityVote
from flwr_robustcomp.strategies.server_step import Adam

__all__ = ["NODES", "SUBJECTS", "TRIM", "Subject"]

NODES = 20
"""Five of them lie: enough others for every chain, also where two replies of liars are rejected."""

TRIM = 5
_SAMPLING: dict[str, Any] = {"min_train_nodes": NODES, "min_evaluate_nodes": NODES, "min_available_nodes": NODES}
_POLICY = Policy(patience=None, quarantine_after=None)


@dataclass(frozen=True)
class Subject:
    """A strategy and what its honest clients do.

    Attributes
    ----------
    promise : float or None
        How many times as long as the longest honest update a step can be, whatever five of twenty nodes send; None where the
        strategy promises nothing, as those of Flower's that are not robust, and those that compute with infinities.
    """

    strategy: Callable[[], Any]
    compressor: Compressor
    granularity: Granularity = "model"
    dtype: torch.dtype = torch.float32
    promise: float | None = None


def _ours(
    kind: Any,
    compressor: Compressor,
    granularity: Granularity = "model",
    dtype: torch.dtype = torch.float32,
    promise: float | None = 1.0,
    **options: Any,
) -> Subject:
    common = {"compressor": compressor, "granularity": granularity, "policy": _POLICY, **_SAMPLING}
    made = kind(**common, **options)
    if isinstance(made, RobustCompressed) and promise is not None:
        promise = made.reach(NODES - 2)
    return Subject(lambda: kind(**common, **options), compressor, granularity, dtype, promise)


def _theirs(kind: Any, compressor: Compressor, promise: float | None = None, **options: Any) -> Subject:
    def make() -> Decompressed:
        return Decompressed(kind(**_SAMPLING, **options), compressor=compressor, policy=_POLICY)

    return Subject(make, compressor, promise=promise)


_BY_COORDINATE = math.sqrt(NODES - TRIM)
"""A median or trimmed mean of a coordinate is within the honest range: its square is at most the sum of the honest squares."""

_REPORTED = 2.0
"""Where honest nodes are sorted by the reported ||x||, which is a little longer than ||Q(x)||: 1.25 times for l1-sign."""


SUBJECTS: dict[str, Subject] = {
    "NormThreshold, L1Sign": _ours(NormThreshold, q.L1Sign(), trim=TRIM),
    "NormThreshold, L1Sign, reported": _ours(NormThreshold, q.L1Sign(), promise=_REPORTED, trim=TRIM, norm="reported"),
    "NormThreshold, L1Sign, by examples": _ours(NormThreshold, q.L1Sign(), trim=TRIM, weighting="examples"),
    "NormThreshold, L1Sign, per array": _ours(NormThreshold, q.L1Sign(), "array", trim=0.3),
    "NormThreshold, Identity, float64": _ours(NormThreshold, q.Identity(), dtype=torch.float64, trim=TRIM),
    "NormThreshold, TopK": _ours(NormThreshold, q.TopK(ratio=0.3), trim=TRIM),
    "NormThreshold, TopK of QSGD": _ours(NormThreshold, q.TopK(ratio=0.3, values=q.QSGD(levels=4)), trim=TRIM),
    "NormThreshold, RandomK": _ours(NormThreshold, q.RandomK(ratio=0.3), trim=TRIM),
    "NormThreshold, QSGD": _ours(NormThreshold, q.QSGD(levels=4), trim=TRIM),
    "NormThreshold, TernGrad": _ours(NormThreshold, q.TernGrad(), trim=TRIM),
    "NormThreshold, SparseTernary": _ours(NormThreshold, q.SparseTernary(ratio=0.3), trim=TRIM),
    "NormThreshold, Drive": _ours(NormThreshold, q.Drive(), trim=TRIM),
    "NormThreshold, RotatedQuantizer": _ours(NormThreshold, q.RotatedQuantizer(levels=4), trim=TRIM),
    "NormThreshold, SphericalNet": _ours(NormThreshold, q.SphericalNet(), trim=TRIM),
    "NormThreshold, CrossPolytope": _ours(NormThreshold, q.CrossPolytope(repetitions=4), trim=TRIM),
    "NormThreshold, LowRank, per array": _ours(NormThreshold, q.LowRank(rank=1), "array", trim=TRIM),
    "RobustCompressed, L1Sign": _ours(RobustCompressed, q.L1Sign(), trim=TRIM),
    "RobustCompressed, TopK, chain": _ours(RobustCompressed, q.TopK(ratio=0.3), trim=TRIM, filters="norm+spectral"),
    "RobustCompressed, Identity, float64": _ours(RobustCompressed, q.Identity(), dtype=torch.float64, trim=TRIM),
    "RobustCompressed, L1Sign, median": _ours(RobustCompressed, q.L1Sign(), trim=TRIM, filters="geometric-median"),
    "RobustCompressed, QSGD, clipping": _ours(RobustCompressed, q.QSGD(levels=4), trim=TRIM, filters="centred-clipping"),
    "RobustCompressed, L1Sign, multi-Krum": _ours(RobustCompressed, q.L1Sign(), trim=TRIM, filters="multi-krum"),
    "RobustCompressed, TopK, sketch": _ours(RobustCompressed, q.TopK(ratio=0.3), trim=TRIM, sketch=64, filters="multi-krum"),
    "RobustCompressed, L1Sign, Adam": _ours(RobustCompressed, q.L1Sign(), promise=None, trim=TRIM, step=Adam(0.1)),
    "RobustCompressed, L1Sign, mixing": _ours(RobustCompressed, q.L1Sign(), trim=TRIM, filters="nearest-neighbor-mixing"),
    "SignMajorityVote": _ours(SignMajorityVote, q.Sign(), step_size=0.1),
    "Decompressed(FedAvg)": _theirs(FedAvg, q.L1Sign()),
    "Decompressed(FedAdam)": _theirs(FedAdam, q.L1Sign()),
    "Decompressed(FedMedian)": _theirs(FedMedian, q.TopK(ratio=0.3), promise=_BY_COORDINATE),
    "Decompressed(FedTrimmedAvg)": _theirs(FedTrimmedAvg, q.L1Sign(), beta=0.3, promise=_BY_COORDINATE),
    "Decompressed(Krum)": _theirs(Krum, q.L1Sign(), num_malicious_nodes=3),
    "Decompressed(MultiKrum)": _theirs(MultiKrum, q.QSGD(levels=4), num_malicious_nodes=3, num_nodes_to_select=5),
    "Decompressed(Bulyan)": _theirs(Bulyan, q.L1Sign(), num_malicious_nodes=2),
}
if importlib.util.find_spec("byzfl") is not None:
    SUBJECTS |= {
        "ByzFL(Krum)": _ours(ByzFL, q.L1Sign(), promise=FACTOR, trim=TRIM, aggregator="Krum"),
        "ByzFL(ARC+NNM+CenteredClipping)": _ours(
            ByzFL, q.TopK(ratio=0.3), trim=TRIM, pre="ARC+NNM", aggregator="CenteredClipping"
        ),
        "ByzFL(CAF), float64": _ours(ByzFL, q.Identity(), dtype=torch.float64, promise=FACTOR, trim=TRIM, aggregator="CAF"),
    }


def _registered(sample: Sample) -> Subject:
    common = {"policy": _POLICY, **_SAMPLING}
    made: Any = sample.make(TRIM, **common)
    promise = made.reach(NODES - 2) if hasattr(made, "reach") else None
    return Subject(lambda: sample.make(TRIM, **common), sample.compressor, promise=promise)


SUBJECTS |= {
    sample.label: _registered(sample)
    for sample in installed(besides=(ByzFL, NormThreshold, RobustCompressed, SignMajorityVote))
}
