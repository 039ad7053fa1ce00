"""Samples of every registered filter, and every chain with a promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.parts.table import filled
from flwr_robustcomp.filters import (
    CAF,
    FILTERS,
    AdaptiveClipping,
    Bucketing,
    CentredClipping,
    Directions,
    DnC,
    Filter,
    Flame,
    FLTrust,
    FoolsGold,
    GeometricMedian,
    Length,
    MultiKrum,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    OverTime,
    SignGuard,
    Spectral,
    Zeno,
    reach_of,
)

__all__ = ["CHAINS", "SAMPLES", "options_of"]

_SAMPLES: dict[str, list[Filter]] = {
    "adaptive-clipping": [AdaptiveClipping(trim=2), AdaptiveClipping(trim=0.2)],
    "bucketing": [Bucketing(trim=2), Bucketing(trim=0, size=3)],
    "caf": [CAF(trim=2), CAF(trim=0), CAF(trim=0.3)],
    "centred-clipping": [CentredClipping(trim=2), CentredClipping(trim=0, radius=1.0)],
    "dnc": [DnC(trim=2), DnC(trim=2, factor=1.5), DnC(trim=2, iterations=2)],
    "fl-trust": [FLTrust()],
    "flame": [Flame(trim=2), Flame()],
    "fools-gold": [FoolsGold(), FoolsGold(trim=2, confidence=2.0)],
    "geometric-median": [GeometricMedian(trim=2)],
    "length": [Length(trim=2), Length(trim=0, factor=3.0)],
    "multi-krum": [MultiKrum(trim=2), MultiKrum(trim=0.1)],
    "nearest-neighbor-mixing": [NearestNeighborMixing(trim=2)],
    "norm": [Norm(trim=2), Norm(trim=0.2)],
    "norm-clipping": [NormClipping(trim=2), NormClipping(trim=0, radius=0.5), NormClipping(trim=2, quantile=0.5)],
    "over-time": [OverTime(trim=2), OverTime(2, GeometricMedian()), OverTime(0.1, MultiKrum())],
    "sign-guard": [SignGuard(trim=2), SignGuard(lower=0.0, upper=10.0)],
    "spectral": [Spectral(trim=2), Spectral(trim=2, slack=None), Spectral(trim=0.1)],
    "zeno": [Zeno(trim=2), Zeno(trim=2, rho=0.0)],
}

SAMPLES = filled(FILTERS, _SAMPLES, lambda part: [part(trim=2)])
"""What the contract suite tries: at least one of each; by default with a trim of two."""

Chain = Callable[[int], Sequence[Filter]]
"""From the number of Byzantine vectors that it must withstand."""

_CHAINS: dict[str, Chain] = {
    "norm": lambda t: [Norm(t)],
    "norm-clipping": lambda t: [NormClipping(t)],
    "norm-clipping, median": lambda t: [NormClipping(t, quantile=0.5)],
    "adaptive-clipping": lambda t: [AdaptiveClipping(t)],
    "length": lambda t: [Length(t)],
    "flame": lambda t: [Flame(t)],
    "sign-guard": lambda t: [SignGuard(t)],
    "caf": lambda t: [CAF(t)],
    "dnc, in t passes": lambda t: [DnC(t, iterations=t)],
    "multi-krum": lambda t: [MultiKrum(t)],
    "geometric-median": lambda t: [GeometricMedian(t)],
    "centred-clipping": lambda t: [CentredClipping(t)],
    "spectral": lambda t: [Spectral(t)],
    "fl-trust": lambda t: [FLTrust(t)],
    "norm-clipping+fl-trust": lambda t: [NormClipping(t), FLTrust(t)],
    "spectral, fixed budget": lambda t: [Spectral(t, slack=None)],
    "norm-clipping+directions+spectral": lambda t: [NormClipping(t), Directions(t), Spectral(t)],
    "norm-clipping+over-time:directions+over-time:spectral": lambda t: [
        *(NormClipping(t), OverTime(t, Directions()), OverTime(t, Spectral())),
    ],
    "length+over-time:nearest-neighbor-mixing": lambda t: [Length(t), OverTime(t, NearestNeighborMixing())],
    "over-time:spectral+spectral": lambda t: [OverTime(t, Spectral()), Spectral(t)],
    "over-time:multi-krum+norm": lambda t: [OverTime(t, MultiKrum()), Norm(t)],
    "length+directions+spectral": lambda t: [Length(t), Directions(t), Spectral(t)],
    "norm+spectral": lambda t: [Norm(t), Spectral(t)],
    "norm-clipping+dnc": lambda t: [NormClipping(t), DnC(t)],
    "length+dnc": lambda t: [Length(t), DnC(t)],
    "length+sign-guard": lambda t: [Length(t), SignGuard(t)],
    "adaptive-clipping+nearest-neighbor-mixing+caf": lambda t: [AdaptiveClipping(t), NearestNeighborMixing(t), CAF(t)],
    "nearest-neighbor-mixing+caf": lambda t: [NearestNeighborMixing(t), CAF(t)],
    "length+nearest-neighbor-mixing": lambda t: [Length(t), NearestNeighborMixing(t)],
    "length+bucketing": lambda t: [Length(t), Bucketing(t)],
    "nearest-neighbor-mixing+geometric-median": lambda t: [NearestNeighborMixing(t), GeometricMedian(t)],
    "nearest-neighbor-mixing+spectral": lambda t: [NearestNeighborMixing(t), Spectral(t)],
    "nearest-neighbor-mixing+multi-krum": lambda t: [NearestNeighborMixing(t), MultiKrum(t)],
    "bucketing+geometric-median": lambda t: [Bucketing(t), GeometricMedian(t)],
    "bucketing+centred-clipping": lambda t: [Bucketing(t), CentredClipping(t)],
}


def _chains_of(name: str, part: type[Filter]) -> dict[str, Chain]:
    """Return a filter as a chain: alone if it promises anything alone, else behind the screen on length."""
    chains: dict[str, Chain] = {name: lambda t: [part(t)], f"length+{name}": lambda t: [Length(t), part(t)]}
    return dict([(label, make) for label, make in chains.items() if math.isfinite(reach_of(make(1), 100))][:1])


_CHAINED = {rule.name for make in _CHAINS.values() for rule in make(1)}

CHAINS: dict[str, Chain] = _CHAINS | {
    label: make for name in SAMPLES if name not in _CHAINED for label, make in _chains_of(name, FILTERS[name]).items()
}
"""Every chain with a promise, by its name; a filter that none of those above has is added by `_chains_of`."""


def options_of(filters: Sequence[Filter]) -> dict[str, Any]:
    """Return the options that a strategy needs for what the filters ask for."""
    asked = {what for one in filters for what in one.looks_at}
    return {"memory": 0.9} if "history" in asked else {}
