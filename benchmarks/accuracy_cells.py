"""What docs/accuracy.md compares: recipes, the settings that they meet, and the runs of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr_robustcomp.compressors import COMPRESSORS
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = [
    "ATTACKED",
    "COMPRESSED",
    "DENSE",
    "HONEST",
    "LEFT_OUT",
    "PROBLEM",
    "RECIPES",
    "ROBUST",
    "SAMPLED",
    "SETTINGS",
    "Case",
    "Recipe",
    "Setting",
    "cases",
    "scenario_of",
]

_SAMPLING = "benchmarks.accuracy_sampling:"
SAMPLED = {
    "fed-avg": f"{_SAMPLING}SampledFedAvg",
    "norm-threshold": f"{_SAMPLING}SampledNormThreshold",
    "robust-compressed": f"{_SAMPLING}SampledRobustCompressed",
}
"""Which class trains on sampled nodes, by the name of the strategy."""


@dataclass(frozen=True)
class Recipe:
    """A compressor, whether there is error feedback, and a strategy.

    Attributes
    ----------
    name : str
        In tables; recipes with and without error feedback share it.
    compressor : dict
        Name and parameters.
    strategy : dict
        Name and parameters.
    error_feedback : bool
        Whether clients keep and add what compression dropped.
    granularity : {"model", "array"}
        Of compression.
    """

    name: str
    compressor: dict[str, Any]
    strategy: dict[str, Any]
    error_feedback: bool = False
    granularity: Granularity = "model"


@dataclass(frozen=True)
class Setting:
    """Who has which images, and who lies.

    Attributes
    ----------
    name : str
        In the data file.
    title : str
        In headings and pictures.
    problem : dict
        What differs from `PROBLEM`.
    nodes : int
        m.
    sampled : int, optional
        Nodes of a round; by default all.
    byzantine : int
        How many nodes attack, by `_ATTACK`.
    """

    name: str
    title: str
    problem: dict[str, Any]
    nodes: int = 10
    sampled: int | None = None
    byzantine: int = 0

    @property
    def replies(self) -> int:
        """Replies of a round."""
        return self.nodes if self.sampled is None else self.sampled


@dataclass(frozen=True)
class Case:
    """One run."""

    setting: Setting
    recipe: Recipe
    seed: int
    rounds: int


PROBLEM: dict[str, Any] = {
    "name": "classification",
    "data": "digits",
    "model": "benchmarks.accuracy_network:network",
    "training": "local",
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "device": "cpu",
}
"""What all settings share."""

_ATTACK: dict[str, Any] = {"name": "scaling", "factor": -10.0}

_IID: dict[str, Any] = {"partition": "iid"}
_SHARDS: dict[str, Any] = {"partition": "shards", "shards": 2}

SETTINGS = (
    Setting("iid", "10 alike clients (IID)", _IID),
    Setting("dirichlet", "10 clients, Dirichlet 0.3", {"partition": "dirichlet", "alpha": 0.3}),
    Setting("shards", "10 clients with two label shards each", _SHARDS),
    # A node has 14 images: batches of 4 give it four steps per epoch, as batches of 32 give five to a node with 144.
    Setting("sampled", "100 alike clients, 10 sampled per round", {**_IID, "batch_size": 4}, nodes=100, sampled=10),
)
"""Those of the tables of compressors, without attack."""

ATTACKED = (
    Setting("iid attacked", "10 alike clients (IID)", _IID, byzantine=2),
    Setting("shards attacked", "10 clients with two label shards each", _SHARDS, byzantine=2),
)
"""The same two settings again, two clients of which send -10 times their update."""

DENSE = Recipe("FedAvg, dense", {"name": "identity"}, {"name": "fed-avg"})
"""Flower's own strategy behind `Decompressed`: every run goes through the same code."""

HONEST = Recipe("FedAvg, dense, the honest alone", {"name": "identity"}, {"name": f"{_SAMPLING}HonestFedAvg"})
"""What is left to learn from where the attackers' images are lost: the limit of every strategy that drops them."""

ROBUST = Recipe(
    "recommended recipe",
    {"name": "drive"},
    {"name": "robust-compressed", "filters": "norm-clipping+directions+spectral", "trim": 0.2, "length_screen": 5.0},
    error_feedback=True,
)
"""What the README recommends."""


def _pair(
    name: str, compressor: dict[str, Any], *, granularity: Granularity = "model", step_size: float = 1.0
) -> tuple[Recipe, ...]:
    """Return the recipes of a compressor under a plain mean, without and with error feedback."""
    strategy = {"name": "norm-threshold", "trim": 0, "step_size": step_size}
    return tuple(Recipe(name, compressor, strategy, kept, granularity) for kept in (False, True))


COMPRESSED = (
    *_pair("drive", {"name": "drive"}),
    *_pair("l1-sign", {"name": "l1-sign"}),
    # Plain signs have no length: the server's step gives them one.
    *_pair("sign, step size 0.003", {"name": "sign"}, step_size=0.003),
    *_pair("top-k 1 %", {"name": "top-k", "ratio": 0.01}),
    *_pair("sparse-ternary 1 %", {"name": "sparse-ternary", "ratio": 0.01}),
    *_pair("random-k 5 %", {"name": "random-k", "ratio": 0.05}),
    *_pair("low-rank, rank 2", {"name": "low-rank", "rank": 2, "method": "power"}, granularity="array"),
    *_pair("qsgd", {"name": "qsgd"}),
    *_pair("rotated-quantizer", {"name": "rotated-quantizer"}),
    *_pair("tern-grad", {"name": "tern-grad"}),
    *_pair("spherical-net", {"name": "spherical-net"}),
    *_pair("cross-polytope", {"name": "cross-polytope"}),
)
"""Every compressor under a plain mean, without and with error feedback."""

_WHY_NOT = {
    "identity": "it is the dense row",
    "non-zeros": "client mods and strategies put it around the others by themselves",
}

LEFT_OUT = {
    name: _WHY_NOT.get(name, "it is newer than these runs")
    for name in COMPRESSORS
    if name not in {recipe.compressor["name"] for recipe in COMPRESSED}
}
"""Members of the registry without a row of their own, and why."""

RECIPES = (DENSE, ROBUST, *COMPRESSED)


def cases(seeds: Sequence[int], rounds: int) -> list[Case]:
    """Return all runs, seed by seed: one that stops early has whole seeds."""
    plain = [(setting, recipe) for setting in SETTINGS for recipe in RECIPES]
    drive = next(one for one in COMPRESSED if one.name == "drive" and one.error_feedback)
    attacked = [(setting, recipe) for setting in ATTACKED for recipe in (DENSE, HONEST, drive, ROBUST)]
    return [Case(setting, recipe, seed, rounds) for seed in seeds for setting, recipe in [*plain, *attacked]]


def scenario_of(case: Case) -> Scenario:
    """Return a run as a scenario.

    The attack stands behind the compressor ("arbitrary"): it has the last word on what is sent.
    """
    setting, recipe = case.setting, case.recipe
    strategy = dict(recipe.strategy)
    if recipe == HONEST:
        strategy |= {"byzantine": setting.byzantine, "scenario_seed": case.seed}
    if setting.sampled is not None:
        strategy |= {"name": SAMPLED[strategy["name"]], "sampled": setting.sampled, "sample_seed": case.seed}
    return Scenario.parse(
        {
            "problem": {**PROBLEM, **setting.problem},
            "nodes": setting.nodes,
            "byzantine": setting.byzantine,
            "attack": _ATTACK,
            "adversary": "arbitrary",
            "compressor": recipe.compressor,
            "error_feedback": recipe.error_feedback,
            "granularity": recipe.granularity,
            "strategy": strategy,
            "rounds": case.rounds,
            "seed": case.seed,
        }
    )
