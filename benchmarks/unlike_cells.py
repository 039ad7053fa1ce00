"""The runs of docs/unlike.md: partitions x attacks x defences, each with the recommended compression."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = ["ATTACKS", "DEFENCES", "MEAN", "NODES", "PARTITIONS", "RECIPE", "ROUNDS", "Case", "Outcome", "cases", "scenario_of"]

NODES, BYZANTINE, ROUNDS = 20, 5, 30

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

MEAN, RECIPE = "mean", "clipping, spectral"

DEFENCES: dict[str, dict[str, Any]] = {
    MEAN: {"name": "norm-threshold", "trim": 0},
    "FedTrimmedAvg": {"name": "fed-trimmed-avg", "beta": BYZANTINE / NODES},
    "spectral": {"name": "robust-compressed", "filters": "spectral", "trim": BYZANTINE},
    RECIPE: {"name": "robust-compressed", "filters": "norm-clipping+spectral", "trim": BYZANTINE, "length_screen": 5.0},
    "clipping, directions, spectral": {
        "name": "robust-compressed",
        "filters": "norm-clipping+directions+spectral",
        "trim": BYZANTINE,
        "length_screen": 5.0,
    },
}
"""By label: the strategy. The trim is the true count of Byzantine nodes, for all of them."""

_TRAINING = {"name": "classification", "hidden": 32, "training": "local", "epochs": 1, "batch_size": 16, "learning_rate": 0.5}


@dataclass(frozen=True)
class Case:
    """One run."""

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


def cases(seeds: Sequence[int]) -> list[Case]:
    """Return all runs, seed by seed, so that an interrupted call leaves whole seeds."""
    return [
        Case(partition, attack, defence, seed)
        for seed in seeds
        for partition in PARTITIONS
        for attack in ATTACKS
        for defence in DEFENCES
    ]


def scenario_of(case: Case) -> Scenario:
    """Return the scenario of a run."""
    attack = ATTACKS[case.attack]
    return Scenario.parse(
        {
            "problem": {**_TRAINING, **PARTITIONS[case.partition]},
            "nodes": NODES,
            "byzantine": BYZANTINE if attack else 0,
            "attack": attack or "sign-flip",
            "compressor": "drive",
            "error_feedback": True,
            "strategy": DEFENCES[case.defence],
            "rounds": ROUNDS,
            "seed": case.seed,
        }
    )
