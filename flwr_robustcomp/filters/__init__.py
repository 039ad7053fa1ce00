"""Robust aggregation rules that need inner products only: mathematics, free of flwr.

`FILTERS` is the closed registry that strategies, scenarios and the contract tests walk.
"""

from __future__ import annotations

from flwr_robustcomp.filters.adaptive_clipping import AdaptiveClipping
from flwr_robustcomp.filters.base import Filter, kept_rows, shortening
from flwr_robustcomp.filters.bucketing import Bucketing
from flwr_robustcomp.filters.caf import CAF
from flwr_robustcomp.filters.centred_clipping import CentredClipping
from flwr_robustcomp.filters.chains import Bounds, bounds_of, chain, chain_rows, fitted, reach_of
from flwr_robustcomp.filters.directions import Directions
from flwr_robustcomp.filters.dnc import DnC
from flwr_robustcomp.filters.fl_trust import FLTrust
from flwr_robustcomp.filters.flame import Flame
from flwr_robustcomp.filters.fools_gold import FoolsGold
from flwr_robustcomp.filters.geometric_median import GeometricMedian
from flwr_robustcomp.filters.length import Length
from flwr_robustcomp.filters.multi_krum import MultiKrum
from flwr_robustcomp.filters.nearest_neighbor_mixing import NearestNeighborMixing
from flwr_robustcomp.filters.norm import Norm
from flwr_robustcomp.filters.norm_clipping import NormClipping
from flwr_robustcomp.filters.over_time import OverTime
from flwr_robustcomp.filters.sign_guard import SignGuard
from flwr_robustcomp.filters.spectral import Spectral
from flwr_robustcomp.filters.spread import VectorSpread, spread_of, spread_seen
from flwr_robustcomp.filters.vectors import Beside, Matrix, Root, Vectors
from flwr_robustcomp.filters.zeno import Zeno

__all__ = [
    "CAF",
    "FILTERS",
    "AdaptiveClipping",
    "Beside",
    "Bounds",
    "Bucketing",
    "CentredClipping",
    "Directions",
    "DnC",
    "FLTrust",
    "Filter",
    "Flame",
    "FoolsGold",
    "GeometricMedian",
    "Length",
    "Matrix",
    "MultiKrum",
    "NearestNeighborMixing",
    "Norm",
    "NormClipping",
    "OverTime",
    "Root",
    "SignGuard",
    "Spectral",
    "VectorSpread",
    "Vectors",
    "Zeno",
    "bounds_of",
    "chain",
    "chain_rows",
    "fitted",
    "kept_rows",
    "reach_of",
    "shortening",
    "spread_of",
    "spread_seen",
]

FILTERS: dict[str, type[Filter]] = {
    "adaptive-clipping": AdaptiveClipping,
    "bucketing": Bucketing,
    "caf": CAF,
    "centred-clipping": CentredClipping,
    "directions": Directions,
    "dnc": DnC,
    "fl-trust": FLTrust,
    "flame": Flame,
    "fools-gold": FoolsGold,
    "geometric-median": GeometricMedian,
    "length": Length,
    "multi-krum": MultiKrum,
    "nearest-neighbor-mixing": NearestNeighborMixing,
    "norm": Norm,
    "norm-clipping": NormClipping,
    "over-time": OverTime,
    "sign-guard": SignGuard,
    "spectral": Spectral,
    "zeno": Zeno,
}
"""Every filter by the name that strategies and scenarios use."""
