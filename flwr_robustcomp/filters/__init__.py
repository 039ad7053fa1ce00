"""Robust aggregation rules that need inner products only: mathematics, free of flwr.

`FILTERS` is the closed registry that strategies, scenarios and the contract tests walk.
"""

from __future__ import annotations

from flwr_robustcomp.filters.base import Filter, chain, fitted, kept_rows, reach_of, shortening
from flwr_robustcomp.filters.bucketing import Bucketing
from flwr_robustcomp.filters.centred_clipping import CentredClipping
from flwr_robustcomp.filters.directions import Directions
from flwr_robustcomp.filters.geometric_median import GeometricMedian
from flwr_robustcomp.filters.length import Length
from flwr_robustcomp.filters.multi_krum import MultiKrum
from flwr_robustcomp.filters.nearest_neighbor_mixing import NearestNeighborMixing
from flwr_robustcomp.filters.norm import Norm
from flwr_robustcomp.filters.norm_clipping import NormClipping
from flwr_robustcomp.filters.spectral import Spectral
from flwr_robustcomp.filters.spread import VectorSpread, spread_of, spread_seen
from flwr_robustcomp.filters.vectors import Beside, Matrix, Root, Vectors

__all__ = [
    "FILTERS",
    "Beside",
    "Bucketing",
    "CentredClipping",
    "Directions",
    "Filter",
    "GeometricMedian",
    "Length",
    "Matrix",
    "MultiKrum",
    "NearestNeighborMixing",
    "Norm",
    "NormClipping",
    "Root",
    "Spectral",
    "VectorSpread",
    "Vectors",
    "chain",
    "fitted",
    "kept_rows",
    "reach_of",
    "shortening",
    "spread_of",
    "spread_seen",
]

FILTERS: dict[str, type[Filter]] = {
    "bucketing": Bucketing,
    "centred-clipping": CentredClipping,
    "directions": Directions,
    "geometric-median": GeometricMedian,
    "length": Length,
    "multi-krum": MultiKrum,
    "nearest-neighbor-mixing": NearestNeighborMixing,
    "norm": Norm,
    "norm-clipping": NormClipping,
    "spectral": Spectral,
}
"""Every filter by the name that strategies and scenarios use."""
