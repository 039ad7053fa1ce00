"""Samples of every registered filter, and every chain with a promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from benchmarks.parts.table import filled
from flwr_robustcomp.filters import (
    FILTERS,
    Bucketing,
    CentredClipping,
    Directions,
    Filter,
    FLTrust,
    GeometricMedian,
    Length,
    MultiKrum,
    NearestNeighborMixing,
    Norm,
    NormClipping,
    Spectral,
    Zeno,
    reach_of,
)

__all__ = ["CHAINS", "SAMPLES"]

_SAMPLES: dict[str, list[Filter]] = {
    "bucketing": [Bucketing(trim=2), Bucketing(trim=0, size=3)],
    "centred-clipping": [CentredClipping(trim=2), CentredClipping(trim=0, radius=1.0)],
    "fl-trust": [FLTrust()],
    "geometric-median": [GeometricMedian(trim=2)],
    "length": [Length(trim=2), Length(trim=0, factor=3.0)],
    "multi-krum": [MultiKrum(trim=2), MultiKrum(trim=0.1)],
    "nearest-neighbor-mixing": [NearestNeighborMixing(trim=2)],
    "norm": [Norm(trim=2), Norm(trim=0.2)],
    "norm-clipping": [NormClipping(trim=2), NormClipping(trim=0, radius=0.5)],
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
    "length": lambda t: [Length(t)],
    "multi-krum": lambda t: [MultiKrum(t)],
    "geometric-median": lambda t: [GeometricMedian(t)],
    "centred-clipping": lambda t: [CentredClipping(t)],
    "spectral": lambda t: [Spectral(t)],
    "fl-trust": lambda t: [FLTrust(t)],
    "norm-clipping+fl-trust": lambda t: [NormClipping(t), FLTrust(t)],
    "spectral, fixed budget": lambda t: [Spectral(t, slack=None)],
    "norm-clipping+directions+spectral": lambda t: [NormClipping(t), Directions(t), Spectral(t)],
    "length+directions+spectral": lambda t: [Length(t), Directions(t), Spectral(t)],
    "norm+spectral": lambda t: [Norm(t), Spectral(t)],
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
