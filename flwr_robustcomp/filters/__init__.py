"""Robust aggregation rules that need inner products only: mathematics, free of flwr.

`FILTERS` is the closed registry that strategies, scenarios and the contract tests walk.
"""

from __future__ import annotations

from flwr_robustcomp.filters.base import Filter, chain, fitted, kept_rows, reach_of, shortening
from flwr_robustcomp.filters.bucketing import Bucketing
from flwr_robustcomp.filters.centred_clipping import CentredClipping
from flwr_robustcomp.filters.directions import Directions
from flwr_robustcomp.filters.fl_trust import FLTrust
from flwr_robustcomp.filters.geometric_median import GeometricMedian
from flwr_robustcomp.filters.length import Length
from flwr_robustcomp.filters.multi_krum import MultiKrum
from flwr_robustcomp.filters.nearest_neighbor_mixing import NearestNeighborMixing
from flwr_robustcomp.filters.norm import Norm
from flwr_robustcomp.filters.norm_clipping import NormClipping
from flwr_robustcomp.filters.spectral import Spectral
from flwr_robustcomp.filters.vectors import Beside, Matrix, Root, Vectors
from flwr_robustcomp.filters.zeno import Zeno

__all__ = [
    "FILTERS",
    "Beside",
    "Bucketing",
    "CentredClipping",
    "Directions",
    "FLTrust",
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
    "Vectors",
    "Zeno",
    "chain",
    "fitted",
    "kept_rows",
    "reach_of",
    "shortening",
]

FILTERS: dict[str, type[Filter]] = {
    "bucketing": Bucketing,
    "centred-clipping": CentredClipping,
    "directions": Directions,
    "fl-trust": FLTrust,
    "geometric-median": GeometricMedian,
    "length": Length,
    "multi-krum": MultiKrum,
    "nearest-neighbor-mixing": NearestNeighborMixing,
    "norm": Norm,
    "norm-clipping": NormClipping,
    "spectral": Spectral,
    "zeno": Zeno,
}
"""Every filter by the name that strategies and scenarios use."""
