"""Flower's own strategies by name, for comparisons; each runs behind `Decompressed`."""

from __future__ import annotations

from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

from flwr_robustcomp.errors import require

__all__ = ["FLOWER_STRATEGIES", "check_parameters"]

FLOWER_STRATEGIES: dict[str, type[FedAvg]] = {
    "bulyan": Bulyan,
    "fed-avg": FedAvg,
    "fed-median": FedMedian,
    "fed-trimmed-avg": FedTrimmedAvg,
    "krum": Krum,
    "multi-krum": MultiKrum,
}
"""Flower's strategies that scenarios can name."""


def check_parameters(strategy: FedAvg) -> None:
    """Refuse what Flower's constructors accept and its rounds cannot use, or use to do something else.

    Raises
    ------
    ConfigurationError
        For a negative number of malicious nodes of Krum, MultiKrum or Bulyan, or a MultiKrum that selects none.
    """
    if isinstance(strategy, Krum | MultiKrum | Bulyan):
        require(strategy.num_malicious_nodes >= 0, "num_malicious_nodes", strategy.num_malicious_nodes, "at least 0")
    if isinstance(strategy, MultiKrum):
        require(strategy.num_nodes_to_select >= 1, "num_nodes_to_select", strategy.num_nodes_to_select, "at least 1")
