"""The runs of docs/unlike.md: tables of partitions x attacks x defences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from flwr_robustcomp.settings import RECIPE as SETTINGS_RECIPE
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = [
    "ATTACKS",
    "MEAN",
    "PARTITIONS",
    "RECIPE",
    "ROUNDS",
    "TABLES",
    "TRAINING",
    "Case",
    "Outcome",
    "Table",
    "cases",
    "scenario_of",
]

ROUNDS = 30

PARTITIONS: dict[str, dict[str, Any]] = {
    "IID": {},
    "Dirichlet 0.3": {"partition": "dirichlet", "alpha": 0.3},
    "Dirichlet 0.1": {"partition": "dirichlet", "alpha": 0.1},
    "two label shards": {"partition": "shards", "shards": 2},
}

ATTACKS: dict[str, Any] = {
    "none": None,
    "shifted-labels": "shifted-labels",
    "random-labels": "random-labels",
    "little-is-enough 1.5": {"name": "little-is-enough", "z": 1.5},
    "inner-product 0.5": {"name": "inner-product", "epsilon": 0.5},
    "min-max": "min-max",
    "mimic": "mimic",
    "under-threshold": "under-threshold",
    "scaling -10": {"name": "scaling", "factor": -10.0},
}

KNOWING = ("cliques", "clip-aware", "cluster-mimic", "hidden-tails", "residual-pumping", "warm-up")
"""Attacks that know all of the recipe."""

MEAN, TRIMMED, RECIPE, TRIMMED_RECIPE = "mean", "FedTrimmedAvg", "the recipe", "the recipe, trimmed mean"
ROOT = "fl-trust, a root of 100"
_FILTERS: dict[str, Any] = {"name": "robust-compressed", "length_screen": SETTINGS_RECIPE["length_screen"]}


def _filtered(filters: str, trim: int, **others: Any) -> dict[str, Any]:
    return {**_FILTERS, "filters": filters, "trim": trim, **others}


def _defences(nodes: int, byzantine: int, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return strategies by their labels; the trim is the true count of Byzantine nodes, for all of them."""
    every: dict[str, dict[str, Any]] = {
        MEAN: {"name": "norm-threshold", "trim": 0},
        TRIMMED: {"name": "fed-trimmed-avg", "beta": byzantine / nodes},
        "spectral": {"name": "robust-compressed", "filters": "spectral", "trim": byzantine},
        "clipping, spectral": _filtered("norm-clipping+spectral", byzantine),
        RECIPE: _filtered(SETTINGS_RECIPE["filters"], byzantine),
        TRIMMED_RECIPE: _filtered(SETTINGS_RECIPE["filters"], byzantine, rule="trimmed-mean"),
    }
    return {name: every[name] for name in names}


@dataclass(frozen=True)
class Table:
    """A part of the page: runs that are compared with each other.

    Attributes
    ----------
    title, about : str
        The heading, and what is to be said under it.
    partitions : sequence of str
        Of `PARTITIONS`.
    attacks : mapping of str to object
        Of scenarios, by label; ``"none"`` for no attack.
    defences : mapping of str to dict
        Strategies of scenarios, by label.
    nodes, byzantine : int
        How many there are, and how many of them attack.
    compression : mapping
        What else a scenario needs.
    """

    title: str
    about: str
    partitions: Sequence[str]
    attacks: Mapping[str, Any]
    defences: Mapping[str, dict[str, Any]]
    nodes: int = 20
    byzantine: int = 5
    compression: Mapping[str, Any] = field(default_factory=lambda: {"compressor": "drive", "error_feedback": True})


TABLES: dict[str, Table] = {
    "drive": Table(
        "The recommended compression",
        "`drive` with error feedback, 5 of 20 nodes Byzantine.",
        tuple(PARTITIONS),
        ATTACKS,
        _defences(20, 5, (MEAN, TRIMMED, "spectral", "clipping, spectral", RECIPE)),
    ),
    "knowing": Table(
        "Attacks that know the recipe",
        "The same, under attacks that were made for the recipe and know all its parameters ([attacks](attacks.md)).",
        ("IID", "Dirichlet 0.3", "two label shards"),
        {name: name for name in KNOWING},
        _defences(20, 5, (MEAN, RECIPE)),
    ),
    "l1-sign": Table(
        "The paper's compressor",
        '`l1-sign` without error feedback, 5 of 20 nodes Byzantine. The last column has `rule = "trimmed-mean"`.',
        ("IID", "Dirichlet 0.3"),
        ATTACKS,
        _defences(20, 5, (MEAN, TRIMMED, RECIPE, TRIMMED_RECIPE)),
        compression={"compressor": "l1-sign", "error_feedback": False},
    ),
    "many": Table(
        "Two of five nodes Byzantine",
        "`drive` with error feedback, 20 of 50 nodes Byzantine.",
        ("Dirichlet 0.3",),
        {name: attack for name, attack in ATTACKS.items() if name != "scaling -10"},
        _defences(50, 20, (TRIMMED, RECIPE)),
        nodes=50,
        byzantine=20,
    ),
    "root": Table(
        "More liars than honest nodes",
        "`drive` with error feedback, 12 of 20 nodes Byzantine, and a [trusted root](how-to/trusted-root.md) with 100 samples.",
        ("Dirichlet 0.3",),
        ATTACKS,
        {ROOT: {"name": "robust-compressed", "filters": "fl-trust"}},
        byzantine=12,
        compression={"compressor": "drive", "error_feedback": True, "root_samples": 100},
    ),
}
"""By name, as in the data file."""

TRAINING = {"name": "classification", "hidden": 32, "training": "local", "epochs": 1, "batch_size": 16, "learning_rate": 0.5}
"""A 64-32-10 network, and its local training."""


@dataclass(frozen=True)
class Case:
    """One run."""

    table: str
    partition: str
    attack: str
    defence: str
    seed: int


@dataclass(frozen=True)
class Outcome(Case):
    """One finished run.

    Attributes
    ----------
    accuracy : float
        On the test images, after the last round.
    """

    accuracy: float

    @classmethod
    def of(cls, case: Case, records: Sequence[RoundRecord]) -> Self:
        """Return the outcome of a complete record."""
        return cls(**asdict(case), accuracy=round(float(records[-1]["accuracy"]), 4))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line of the data file."""
        return cls(**json.loads(line))

    def as_json(self) -> dict[str, Any]:
        """Return what a line of the data file holds."""
        return asdict(self)


def cases(seeds: Iterable[int], tables: Iterable[str] = tuple(TABLES)) -> list[Case]:
    """Return the runs of some tables, seed by seed, so that an interrupted call leaves whole seeds."""
    return [
        Case(table, partition, attack, defence, seed)
        for table in tables
        for seed in seeds
        for partition in TABLES[table].partitions
        for attack in TABLES[table].attacks
        for defence in TABLES[table].defences
    ]


def scenario_of(case: Case) -> Scenario:
    """Return the scenario of a run."""
    table = TABLES[case.table]
    attack = table.attacks[case.attack]
    return Scenario.parse(
        {
            "problem": {**TRAINING, **PARTITIONS[case.partition]},
            "nodes": table.nodes,
            "byzantine": table.byzantine if attack else 0,
            "attack": attack or "sign-flip",
            **table.compression,
            "strategy": table.defences[case.defence],
            "rounds": ROUNDS,
            "seed": case.seed,
        }
    )
