"""What holds of a registered part whatever its kind: its name, where it is exported, and that tests know how to make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

from benchmarks.parts import compressors as compressor_samples
from benchmarks.parts import filters as filter_samples
from benchmarks.parts import problems as problem_samples
from benchmarks.parts import strategies as strategy_samples
from benchmarks.parts.table import filled, gaps
from flwr_robustcomp import clients, compressors, filters, rules
from flwr_robustcomp.simulations import attacks, problems
from flwr_robustcomp.strategies.registry import OURS
from flwr_robustcomp.theory import CATALOGUE

REGISTRIES: dict[str, tuple[Mapping[str, Any], ModuleType]] = {
    "COMPRESSORS": (compressors.COMPRESSORS, compressors),
    "FILTERS": (filters.FILTERS, filters),
    "RULES": (rules.RULES, rules),
    "ATTACK_MODS": (clients.ATTACK_MODS, clients),
    "COLLUSIONS": (attacks.COLLUSIONS, attacks),
    "PROBLEMS": (problems.PROBLEMS, problems),
}
"""Those of which every part is exported by the package that holds the registry."""

_ATTACKS = filled(attacks.ATTACKS, {}, lambda part: [part()])
_PROBLEMS = filled(
    {name: name for name in problems.PROBLEMS}, {}, lambda name: [problems.PROBLEMS[name](8, 0, **problem_samples.SMALL[name])]
)

SAMPLED: dict[str, tuple[Mapping[str, Any], Mapping[str, object], str]] = {
    "compressors": (compressors.COMPRESSORS, CATALOGUE, "flwr_robustcomp/theory/catalogue.py, _ENTRIES"),
    "filters": (filters.FILTERS, filter_samples.SAMPLES, "benchmarks/parts/filters.py, _SAMPLES"),
    "rules": (rules.RULES, filled(rules.RULES, {}, lambda part: [part()]), "its own file: a default for each parameter"),
    "strategies": (OURS, strategy_samples.SAMPLES, "benchmarks/parts/strategies.py, _SAMPLES"),
    "attacks": (attacks.ATTACKS, _ATTACKS, "its own file: a default for each parameter"),
    "problems": (problems.PROBLEMS, _PROBLEMS, "benchmarks/parts/problems.py, SMALL"),
}


@pytest.mark.parametrize("registry", [name for name in REGISTRIES if name != "PROBLEMS"])
def test_every_part_knows_its_name(registry: str) -> None:
    parts, _ = REGISTRIES[registry]
    assert {name: part.name for name, part in parts.items()} == {name: name for name in parts}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_part_is_exported_beside_its_registry(registry: str) -> None:
    parts, module = REGISTRIES[registry]
    assert {part.__name__ for part in parts.values()} <= set(module.__all__)


@pytest.mark.parametrize("kind", SAMPLED)
def test_every_part_can_be_made_for_tests(kind: str) -> None:
    assert gaps(*SAMPLED[kind]) == []


def test_every_compressor_has_a_sample_for_each_purpose() -> None:
    known = CATALOGUE.keys()
    for table in (compressor_samples.COMPONENTS, compressor_samples.SAMPLES, compressor_samples.TRAINING):
        assert table.keys() == known


def test_every_filter_with_a_promise_is_in_a_chain() -> None:
    chained = {rule.name for make in filter_samples.CHAINS.values() for rule in make(1)}
    assert chained == set(filter_samples.SAMPLES)


class _Sized:
    """A part with a parameter that has no default."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("size must be at least 1")


@pytest.mark.parametrize(
    ("entries", "default", "named"),
    [
        ({}, lambda part: [part()], ['somewhere.py, TABLE: add "sized" with parameters (_Sized() alone cannot be made)']),
        ({}, lambda part: [part(0)], ['somewhere.py, TABLE: add "sized" with parameters (_Sized() alone cannot be made)']),
        ({}, lambda part: [part(1)], []),
        ({"sized": [_Sized(3)]}, lambda part: [part()], []),
    ],
    ids=["no default", "a default that is refused", "a default", "an entry"],
)
def test_a_part_that_cannot_be_made_is_named_with_its_place(
    entries: dict[str, list[_Sized]], default: Callable[[Any], list[_Sized]], named: list[str]
) -> None:
    registry = {"sized": _Sized}
    assert gaps(registry, filled(registry, entries, default), "somewhere.py, TABLE") == named
