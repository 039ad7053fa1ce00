"""Flower's own strategies by name, for comparisons; each runs behind `Decompressed`."""

from __future__ import annotations

from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

__all__ = ["FLOWER_STRATEGIES"]

FLOWER_STRATEGIES: dict[str, type[FedAvg]] = {
    "bulyan": Bulyan,
    "fed-avg": FedAvg,
    "fed-median": FedMedian,
    "fed-trimmed-avg": FedTrimmedAvg,
    "krum": Krum,
    "multi-krum": MultiKrum,
}
"""Flower's strategies that scenarios can name."""
