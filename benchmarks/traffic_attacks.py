"""The runs of docs/traffic.md under attack: every attack of the registry, with the dense and with the packed downlink."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.traffic_cells import DOWNS, OURS, PARTITIONS
from benchmarks.unlike_cells import TRAINING
from flwr_robustcomp.settings import RECIPE
from flwr_robustcomp.simulations.attacks import ATTACKS
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = [
    "ATTACK_PARTITIONS",
    "ATTACK_ROUNDS",
    "ATTACK_SEEDS",
    "BYZANTINE",
    "DENSE",
    "NAME",
    "NODES",
    "NONE",
    "AttackCase",
    "cases",
]

NAME = "attacks"
"""Of the table."""

NODES, BYZANTINE, ATTACK_ROUNDS, ATTACK_SEEDS = 20, 4, 20, 3

NONE = "none"

ATTACK_PARTITIONS = ("IID", "Dirichlet 0.3")

DENSE = "dense"


@dataclass(frozen=True)
class AttackCase:
    """One run under attack.

    Attributes
    ----------
    partition, attack : str
        Of `PARTITIONS`, and of the registry.
    down : str
        ``"dense"``, or one of `DOWNS`.
    seed : int
        Of the run.
    """

    partition: str
    attack: str
    down: str
    seed: int


def cases(seeds: Iterable[int], tables: Sequence[str] = (NAME,)) -> list[AttackCase]:
    """Return the runs of the first `ATTACK_SEEDS` seeds, seed by seed; nothing where the table is not asked for."""
    return [
        AttackCase(partition, attack, down, seed)
        for seed in (sorted(seeds)[:ATTACK_SEEDS] if NAME in tables else ())
        for partition in ATTACK_PARTITIONS
        for attack in (NONE, *ATTACKS)
        for down in (DENSE, OURS)
    ]


def scenario_of(case: AttackCase) -> Scenario:
    """Return the scenario of a run: the recipe of `Settings`, which is told that a fifth of the nodes lies."""
    lie = case.attack != NONE
    return Scenario.parse(
        {
            "problem": {**TRAINING, **PARTITIONS[case.partition]},
            "nodes": NODES,
            "byzantine": BYZANTINE if lie else 0,
            "attack": case.attack if lie else "sign-flip",
            "compressor": "drive",
            "error_feedback": True,
            "downlink": DOWNS.get(case.down, {"name": DENSE}),
            "strategy": {"name": "robust-compressed", **RECIPE},
            "rounds": ATTACK_ROUNDS,
            "seed": case.seed,
        }
    )
