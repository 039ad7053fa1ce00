"""The strategies that whole replies are fuzzed against."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from flwr.serverapp.strategy import Bulyan, FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from flwr_robustcomp import compressors as q
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.layout import Granularity
from flwr_robustcomp.strategies import ByzFL, Decompressed, NormThreshold, Policy, RobustCompressed, SignMajorityVote

__all__ = ["NODES", "SUBJECTS", "Subject"]

NODES = 12
_SAMPLING: dict[str, Any] = {"min_train_nodes": NODES, "min_evaluate_nodes": NODES, "min_available_nodes": NODES}
_POLICY = Policy(patience=None, quarantine_after=None)


@dataclass(frozen=True)
class Subject:
    """A strategy and what its honest clients do."""

    strategy: Callable[[], Any]
    compressor: Compressor
    granularity: Granularity = "model"
    dtype: torch.dtype = torch.float32


def _ours(
    kind: Any, compressor: Compressor, granularity: Granularity = "model", dtype: torch.dtype = torch.float32, **options: Any
) -> Subject:
    common = {"compressor": compressor, "granularity": granularity, "policy": _POLICY, **_SAMPLING}
    return Subject(lambda: kind(**common, **options), compressor, granularity, dtype)


def _theirs(kind: Any, compressor: Compressor, **options: Any) -> Subject:
    return Subject(lambda: Decompressed(kind(**_SAMPLING, **options), compressor=compressor, policy=_POLICY), compressor)


SUBJECTS: dict[str, Subject] = {
    "NormThreshold, L1Sign": _ours(NormThreshold, q.L1Sign(), trim=3),
    "NormThreshold, L1Sign, reported": _ours(NormThreshold, q.L1Sign(), trim=3, norm="reported"),
    "NormThreshold, L1Sign, by examples": _ours(NormThreshold, q.L1Sign(), trim=3, weighting="examples"),
    "NormThreshold, L1Sign, per array": _ours(NormThreshold, q.L1Sign(), "array", trim=0.2),
    "NormThreshold, Identity, float64": _ours(NormThreshold, q.Identity(), dtype=torch.float64, trim=3),
    "NormThreshold, TopK": _ours(NormThreshold, q.TopK(ratio=0.3), trim=3),
    "NormThreshold, TopK of QSGD": _ours(NormThreshold, q.TopK(ratio=0.3, values=q.QSGD(levels=4)), trim=3),
    "NormThreshold, RandomK": _ours(NormThreshold, q.RandomK(ratio=0.3), trim=3),
    "NormThreshold, QSGD": _ours(NormThreshold, q.QSGD(levels=4), trim=3),
    "NormThreshold, TernGrad": _ours(NormThreshold, q.TernGrad(), trim=3),
    "NormThreshold, SparseTernary": _ours(NormThreshold, q.SparseTernary(ratio=0.3), trim=3),
    "NormThreshold, Drive": _ours(NormThreshold, q.Drive(), trim=3),
    "NormThreshold, RotatedQuantizer": _ours(NormThreshold, q.RotatedQuantizer(levels=4), trim=3),
    "NormThreshold, SphericalNet": _ours(NormThreshold, q.SphericalNet(), trim=3),
    "NormThreshold, CrossPolytope": _ours(NormThreshold, q.CrossPolytope(repetitions=4), trim=3),
    "NormThreshold, LowRank, per array": _ours(NormThreshold, q.LowRank(rank=1), "array", trim=3),
    "RobustCompressed, L1Sign": _ours(RobustCompressed, q.L1Sign(), trim=3),
    "RobustCompressed, TopK, chain": _ours(RobustCompressed, q.TopK(ratio=0.3), trim=2, filters="norm+spectral"),
    "RobustCompressed, Identity, float64": _ours(RobustCompressed, q.Identity(), dtype=torch.float64, trim=3),
    "RobustCompressed, L1Sign, median": _ours(RobustCompressed, q.L1Sign(), trim=3, filters="geometric-median"),
    "RobustCompressed, QSGD, clipping": _ours(RobustCompressed, q.QSGD(levels=4), trim=3, filters="centred-clipping"),
    "RobustCompressed, L1Sign, multi-Krum": _ours(RobustCompressed, q.L1Sign(), trim=3, filters="multi-krum"),
    "RobustCompressed, L1Sign, mixing": _ours(RobustCompressed, q.L1Sign(), trim=3, filters="nearest-neighbor-mixing"),
    "SignMajorityVote": _ours(SignMajorityVote, q.Sign(), step_size=0.1),
    "Decompressed(FedAvg)": _theirs(FedAvg, q.L1Sign()),
    "Decompressed(FedAdam)": _theirs(FedAdam, q.L1Sign()),
    "Decompressed(FedMedian)": _theirs(FedMedian, q.TopK(ratio=0.3)),
    "Decompressed(FedTrimmedAvg)": _theirs(FedTrimmedAvg, q.L1Sign(), beta=0.2),
    "Decompressed(Krum)": _theirs(Krum, q.L1Sign(), num_malicious_nodes=3),
    "Decompressed(MultiKrum)": _theirs(MultiKrum, q.QSGD(levels=4), num_malicious_nodes=3, num_nodes_to_select=5),
    "Decompressed(Bulyan)": _theirs(Bulyan, q.L1Sign(), num_malicious_nodes=2),
}
if importlib.util.find_spec("byzfl") is not None:
    SUBJECTS |= {
        "ByzFL(Krum)": _ours(ByzFL, q.L1Sign(), trim=3, aggregator="Krum"),
        "ByzFL(ARC+NNM+CenteredClipping)": _ours(
            ByzFL, q.TopK(ratio=0.3), trim=3, pre="ARC+NNM", aggregator="CenteredClipping"
        ),
        "ByzFL(CAF), float64": _ours(ByzFL, q.Identity(), dtype=torch.float64, trim=3, aggregator="CAF"),
    }
