"""Which node has which images: flwr-datasets' own partitioners, over any labels, under the run's seed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.randomness import generator

__all__ = ["PARTITIONS", "PartitionSpec", "partition"]


@dataclass(frozen=True, kw_only=True)
class PartitionSpec:
    """How images are shared out.

    Attributes
    ----------
    name : str
        A key of `PARTITIONS`.
    alpha : float
        Of dirichlet: the concentration, positive; the smaller, the fewer classes a node sees (Hsu, Qi and Brown 2019).
    shards : int
        Of shards: how many each node gets of the images sorted by label (McMahan et al. 2017, with 2).
    sizes : tuple of int
        Of sizes: how many images each node gets.
    """

    name: str = "iid"
    alpha: float = 0.5
    shards: int = 2
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.name in PARTITIONS, "problem.partition", self.name, f"one of {', '.join(sorted(PARTITIONS))}")
        require(0 < self.alpha < float("inf"), "problem.alpha", self.alpha, "positive and finite")
        require(self.shards >= 1, "problem.shards", self.shards, "at least 1")
        require(all(size >= 1 for size in self.sizes), "problem.sizes", list(self.sizes), "at least 1 each")
        require(
            bool(self.sizes) == (self.name == "sizes"), "problem.sizes", list(self.sizes), 'given with partition = "sizes" only'
        )


def partition(labels: npt.NDArray[np.int64], nodes: int, seed: int, spec: PartitionSpec) -> list[npt.NDArray[np.int64]]:
    """Share out images.

    Parameters
    ----------
    labels : numpy.ndarray, shape (n,), int64
        Of all training images.
    nodes : int
        m.
    seed : int
        Of the run. Images are shuffled by it first, since some partitioners take them as they come.
    spec : PartitionSpec
        How.

    Returns
    -------
    list of numpy.ndarray, int64
        The positions of each node's images, disjoint; none is empty.

    Raises
    ------
    ConfigurationError
        If a node would be left without images, or flwr-datasets is missing.
    """
    require(nodes <= len(labels), "nodes", nodes, f"at most {len(labels)}, the number of training images")
    if spec.name == "sizes":
        require(len(spec.sizes) == nodes, "problem.sizes", list(spec.sizes), f"one number for each of the {nodes} nodes")
        require(sum(spec.sizes) <= len(labels), "problem.sizes", sum(spec.sizes), f"at most {len(labels)} images in all")
    rng = generator(seed, "partition")
    order = rng.permutation(len(labels))
    try:
        # Half a second and pyarrow: only problems that share out images pay for it.
        from datasets import Dataset  # noqa: PLC0415

        partitioners = importlib.import_module("flwr_datasets.partitioner")
    except ImportError as error:
        raise ConfigurationError("flwr-datasets is not installed: pip install 'flwr-robustcomp[data]'") from error
    if spec.name == "sizes":
        order = order[: sum(spec.sizes)]
    rows = Dataset.from_dict({"label": labels[order], "position": order})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it draws anew where a node is empty, and raises after ten times
            partitioner = PARTITIONS[spec.name](partitioners, spec, nodes, int(rng.integers(2**31)))
            partitioner.dataset = rows
            shares = [np.asarray(partitioner.load_partition(i)["position"], dtype=np.int64) for i in range(nodes)]
    except ValueError as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ConfigurationError(
            f"problem.partition {spec.name!r} must give each of the {nodes} nodes an image, got {len(labels)} images: {why}"
        ) from error
    empty = [i for i, share in enumerate(shares) if not len(share)]
    require(not empty, "problem.partition", spec.name, f"one that leaves no node empty (it leaves {len(empty)} of {nodes})")
    return shares


PARTITIONS: dict[str, Callable[[Any, PartitionSpec, int, int], Any]] = {
    "dirichlet": lambda module, spec, nodes, seed: module.DirichletPartitioner(
        num_partitions=nodes, partition_by="label", alpha=spec.alpha, min_partition_size=1, self_balancing=False, seed=seed
    ),
    "iid": lambda module, spec, nodes, seed: module.IidPartitioner(num_partitions=nodes),
    "shards": lambda module, spec, nodes, seed: module.ShardPartitioner(
        num_partitions=nodes, partition_by="label", num_shards_per_partition=spec.shards, seed=seed
    ),
    "sizes": lambda module, spec, nodes, seed: module.SizePartitioner(partition_sizes=list(spec.sizes)),
}
"""Every partitioner by the name that scenarios use: (flwr_datasets.partitioner, spec, nodes, seed) -> partitioner."""
