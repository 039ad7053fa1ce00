"""Strategies that train on a few of many nodes in each round, the same ones for every recipe.

A scenario trains on all of its nodes. Flower draws from Python's global generator, so that two recipes would see different
nodes. Here the nodes of a round follow from the seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.strategies import NormThreshold, RobustCompressed
from flwr_robustcomp.strategies.nodes.sampling import SamplingView

__all__ = ["HonestFedAvg", "Sampled", "SampledFedAvg", "SampledNormThreshold", "SampledRobustCompressed", "drawn"]


def drawn(nodes: Iterable[int], sampled: int, seed: int, server_round: int) -> list[int]:
    """Return the nodes of a round: ``sampled`` of them, a function of the arguments alone.

    Examples
    --------
    >>> from benchmarks.accuracy_sampling import drawn
    >>> len(drawn(range(100), 10, seed=0, server_round=1)), drawn(range(4), 4, seed=0, server_round=1)
    (10, [0, 1, 2, 3])
    """
    known = sorted(nodes)
    order = generator(seed, "accuracy sample", round_=server_round).permutation(len(known))
    return [known[place] for place in sorted(order[:sampled])]


class Sampled(FedAvg):
    """Base of strategies that see ``sampled`` of the nodes in each round.

    Parameters
    ----------
    sampled : int
        Nodes of a round.
    sample_seed : int
        Which ones.
    **options
        Those of the strategy.
    """

    def __init__(self, *, sampled: int, sample_seed: int, **options: Any) -> None:
        super().__init__(**{**options, "min_train_nodes": sampled, "min_available_nodes": sampled})
        self.sampled = sampled
        self.sample_seed = sample_seed

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask the nodes that are drawn."""
        view = SamplingView(grid, lambda nodes: drawn(nodes, self.sampled, self.sample_seed, server_round))
        return super().configure_train(server_round, arrays, config, view)


class SampledFedAvg(Sampled):
    """Flower's `FedAvg` on sampled nodes; it runs behind `Decompressed`."""


class HonestFedAvg(FedAvg):
    """Flower's `FedAvg` without the nodes that attack, as if somebody knew them: what is left to learn from.

    Parameters
    ----------
    byzantine : int
        How many nodes attack.
    scenario_seed : int
        Which ones, as in `byzantine_partitions`.
    **options
        Those of `FedAvg`.
    """

    def __init__(self, *, byzantine: int, scenario_seed: int, **options: Any) -> None:
        honest = options["min_train_nodes"] - byzantine
        super().__init__(**{**options, "min_train_nodes": honest, "min_available_nodes": honest})
        self.byzantine = byzantine
        self.scenario_seed = scenario_seed

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask the honest nodes."""
        partition_of: dict[int, int] = grid.partition_of  # type: ignore[attr-defined]
        liars = set(generator(self.scenario_seed, "byzantine").permutation(len(partition_of))[: self.byzantine].tolist())
        view = SamplingView(grid, lambda nodes: [node for node in nodes if partition_of[node] not in liars])
        return super().configure_train(server_round, arrays, config, view)


class SampledNormThreshold(Sampled, NormThreshold):
    """`NormThreshold` on sampled nodes; its options as they are."""

    def __init__(self, *, compressor: Compressor, sampled: int, sample_seed: int, **options: Any) -> None:
        super().__init__(compressor=compressor, sampled=sampled, sample_seed=sample_seed, **options)


class SampledRobustCompressed(Sampled, RobustCompressed):
    """`RobustCompressed` on sampled nodes; its options as they are."""

    def __init__(self, *, compressor: Compressor, sampled: int, sample_seed: int, **options: Any) -> None:
        super().__init__(compressor=compressor, sampled=sampled, sample_seed=sample_seed, **options)
