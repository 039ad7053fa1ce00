"""The runs of docs/traffic.md: data x who takes part x who has which images x how the model travels down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy_cells import COMPRESSED, DENSE, PROBLEM, SAMPLED, Recipe
from benchmarks.traffic_mnist import FOLDER
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = [
    "BASE",
    "DOWNS",
    "ONE_BIT",
    "OURS",
    "PARTITIONS",
    "TABLES",
    "UPLINK",
    "Case",
    "Table",
    "cases",
    "scenario_of",
]

BASE, UPLINK, ONE_BIT = "dense FedAvg", "uplink only", "replica, 1 bit"
OURS = "replica, adaptive"

_DENSE: dict[str, Any] = {"name": "dense"}

DOWNS: dict[str, dict[str, Any]] = {
    BASE: _DENSE,
    UPLINK: _DENSE,
    # The defaults, spelled out: they name the runs, and other defaults are other runs.
    OURS: {"name": "replica", "bits": 0, "model_bits": 4, "lag": 0.6},
    ONE_BIT: {"name": "replica", "bits": 1, "model_bits": 4},
    "replica, 2 bits": {"name": "replica", "bits": 2, "model_bits": 4},
    "quantised, 4 bits": {"name": "quantised", "bits": 4},
    "quantised, 8 bits": {"name": "quantised", "bits": 8},
}
"""How the model travels, by label. All but the first have a packed uplink."""

PARTITIONS: dict[str, dict[str, Any]] = {
    "IID": {"partition": "iid"},
    "Dirichlet 0.3": {"partition": "dirichlet", "alpha": 0.3},
    "two label shards": {"partition": "shards", "shards": 2},
}

_ALL = next(one for one in COMPRESSED if one.name == "drive" and one.error_feedback)
"""What docs/accuracy.md recommends where every node takes part in every round."""

_FEW = next(one for one in COMPRESSED if one.name == "tern-grad" and not one.error_feedback)
"""What is best there for sampled nodes: a node that is seldom asked has an old residual."""


@dataclass(frozen=True)
class Table:
    """A part of the page: runs that are compared with each other.

    Attributes
    ----------
    title : str
        The heading.
    problem : mapping
        Of scenarios, without the partition.
    nodes : int
        m.
    rounds : int
        T.
    packed : Recipe
        The uplink of every row but dense FedAvg.
    sampled : int, optional
        Nodes of a round; by default all.
    wanted : float
        How many times fewer bytes than dense FedAvg are to be enough.
    """

    title: str
    problem: Mapping[str, Any]
    nodes: int
    rounds: int
    packed: Recipe = _ALL
    sampled: int | None = None
    wanted: float = 20.0

    @property
    def replies(self) -> int:
        """Replies of a round."""
        return self.nodes if self.sampled is None else self.sampled


_MNIST = {**PROBLEM, "data": "folder", "data_dir": FOLDER, "model": "benchmarks.accuracy_network:mnist_network", "epochs": 1}
_SPARSE: dict[str, Any] = {"packed": _FEW, "sampled": 10, "wanted": 8.0}

TABLES: dict[str, Table] = {
    "digits": Table("Digits, all of 10 nodes", PROBLEM, 10, 30),
    # A node has 14 images: batches of 4 give it four steps per epoch, as batches of 32 give five to a node with 144.
    "digits sampled": Table("Digits, 10 of 100 nodes", {**PROBLEM, "batch_size": 4}, 100, 40, **_SPARSE),
    "mnist": Table("MNIST, all of 20 nodes", _MNIST, 20, 20),
    "mnist sampled": Table("MNIST, 10 of 100 nodes", {**_MNIST, "batch_size": 10}, 100, 40, **_SPARSE),
}
"""By name, as in the data file."""


@dataclass(frozen=True)
class Case:
    """One run."""

    table: str
    partition: str
    down: str
    seed: int


def cases(seeds: Iterable[int], tables: Sequence[str] = tuple(TABLES)) -> list[Case]:
    """Return the runs of some tables, seed by seed, so that an interrupted call leaves whole seeds."""
    return [
        Case(table, partition, down, seed)
        for table in tables
        if table in TABLES
        for seed in seeds
        for partition in PARTITIONS
        for down in DOWNS
    ]


def scenario_of(case: Case) -> Scenario:
    """Return the scenario of a run; which nodes are sampled follows from its seed."""
    table = TABLES[case.table]
    recipe = DENSE if case.down == BASE else table.packed
    strategy = dict(recipe.strategy)
    if table.sampled is not None:
        strategy |= {"name": SAMPLED[strategy["name"]], "sampled": table.sampled, "sample_seed": case.seed}
    return Scenario.parse(
        {
            "problem": {**table.problem, **PARTITIONS[case.partition]},
            "nodes": table.nodes,
            "compressor": recipe.compressor,
            "error_feedback": recipe.error_feedback,
            "granularity": recipe.granularity,
            "downlink": DOWNS[case.down],
            "strategy": strategy,
            "rounds": table.rounds,
            "seed": case.seed,
        }
    )
