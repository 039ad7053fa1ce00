from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.attacks import ATTACKS
from flwr_robustcomp.simulations.comparison.compare import load_suite
from flwr_robustcomp.simulations.scenario.suite import Group, Suite
from tests.simulations.kit import ROOT, SMALL

BASE = {key: SMALL[key] for key in ("problem", "nodes", "rounds")}


def _suite(**fields: Any) -> Suite:
    return Suite.model_validate({"title": "T", "base": BASE, "strategies": [{"name": "norm-threshold"}], **fields})


def test_a_suite_is_the_product_of_its_lists() -> None:
    suite = _suite(
        strategies=[{"name": "norm-threshold", "trim": "byzantine+1"}, {"name": "fed-avg", "label": "plain"}],
        compressors=["l1-sign", {"name": "top-k", "k": 2}],
        attacks=["sign-flip", "gaussian-noise"],
        byzantine=[0, 1, 2],
        seeds=[3, 4],
    )
    cells = suite.cells()
    settings = [(0, "none"), *((b, a) for b in (1, 2) for a in ("sign-flip", "gaussian-noise"))]
    expected = [
        (Group(b, a, c, s), seed)
        for s in ("norm-threshold", "plain")
        for c in ("l1-sign", "top-k")
        for b, a in settings
        for seed in (3, 4)
    ]
    assert [(cell.group, cell.scenario.seed) for cell in cells] == expected
    for cell in cells:
        scenario = cell.scenario
        assert (scenario.nodes, scenario.rounds) == (10, 3)
        assert scenario.byzantine == cell.group.byzantine
        assert scenario.compressor.name == cell.group.compressor
        if scenario.strategy.name == "norm-threshold":
            assert scenario.strategy.params == {"trim": "byzantine+1"}
    assert len({cell.scenario.key for cell in cells}) == len(cells)


def test_a_strategy_may_bring_its_own_compressor_and_error_feedback() -> None:
    suite = _suite(
        strategies=[
            {"name": "norm-threshold", "trim": 1, "error_feedback": True},
            {"name": "majority-vote", "compressor": "sign", "label": "vote"},
        ],
        compressors=["l1-sign", "qsgd"],
    )
    found = [(c.group.strategy, c.scenario.compressor.name, c.scenario.error_feedback) for c in suite.cells()]
    assert found == [("norm-threshold", "l1-sign", True), ("norm-threshold", "qsgd", True), ("vote", "sign", False)]
    assert suite.cells()[2].scenario.strategy.params == {}


def test_a_strategy_may_bring_its_own_client_momentum() -> None:
    suite = _suite(strategies=[{"name": "fed-avg"}, {"name": "fed-avg", "label": "slow", "client_momentum": 0.5}])
    assert [cell.scenario.client_momentum for cell in suite.cells()] == [0.0, 0.5]


def test_the_suites_of_robustness_have_every_attack_without_labels_and_ten_seeds() -> None:
    suite, colluders = (Suite.from_toml(ROOT / "examples" / f"{name}.toml") for name in ("robustness", "colluders"))
    attacks = {attack.name for attack in suite.attacks} | {attack.name for attack in colluders.attacks}
    assert attacks == {name for name, attack in ATTACKS.items() if attack.kind != "label"}, "name it in one of the two"
    assert len(suite.seeds) == 10
    assert (suite.base["nodes"], suite.base["rounds"], max(suite.byzantine)) == (200, 150, 20)


def test_what_shares_a_name_is_told_apart_by_its_parameters() -> None:
    suite = _suite(
        strategies=[{"name": "norm-threshold", "trim": 1}, {"name": "norm-threshold", "trim": 2}],
        compressors=[{"name": "top-k", "k": 2}, {"name": "top-k", "k": 3}, "l1-sign"],
        attacks=[{"name": "gaussian-noise", "variance": 1.0}, "gaussian-noise"],
        byzantine=[1],
    )
    groups = [cell.group for cell in suite.cells()]
    assert len(set(groups)) == len(groups) == 12
    assert groups[0] == Group(1, "gaussian-noise (variance 1.0)", "top-k (k 2)", "norm-threshold (trim 1)")
    assert groups[-1] == Group(1, "gaussian-noise", "l1-sign", "norm-threshold (trim 2)")


@pytest.mark.parametrize(
    "fields",
    [
        {"strategies": [{"name": "norm-threshold", "label": "a"}, {"name": "fed-avg", "label": "a"}]},
        {"strategies": ["norm-threshold", {"name": "norm-threshold", "error_feedback": True}]},
        {"compressors": ["l1-sign", "l1-sign"]},
        {"seeds": [1, 1]},
        {"byzantine": [0, 0]},
    ],
)
def test_a_combination_named_twice_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"every combination once, got .* 2 times"):
        _suite(**fields).cells()


@pytest.mark.parametrize(("name", "cells"), [("recipe.toml", 4), ("regression.toml", 8), ("digits.toml", 8)])
def test_the_examples_are_suites(name: str, cells: int) -> None:
    suite = Suite.from_toml(ROOT / "examples" / name)
    assert len(suite.cells()) == cells


HEAD = 'title = "T"\n[base]\nnodes = 10\nrounds = 2\nproblem = { name = "least-squares", samples = 80, dimension = 12 }\n'
STRATEGY = '[[strategies]]\nname = "norm-threshold"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD, ["strategies", "required"]),
        (HEAD + "[[strategies]]\ntrim = 3\n", ["strategies.0.name", "required"]),
        (STRATEGY, ["title", "required"]),
        ('tilte = "T"\n' + HEAD + STRATEGY, ["tilte", "not permitted", "'T'"]),
        ("seeds = []\n" + HEAD + STRATEGY, ["seeds", "at least 1"]),
        ('byzantine = ["two"]\n' + HEAD + STRATEGY, ["byzantine.0", "integer", "'two'"]),
        ("byzantine = [11]\n" + HEAD + STRATEGY, ["byzantine", "[0, nodes = 10]", "11"]),
        ("byzantine = [-1]\n" + HEAD + STRATEGY, ["byzantine", "greater than or equal to 0", "-1"]),
        ('compressors = ["zip"]\n' + HEAD + STRATEGY, ["compressor", "'zip'", "l1-sign"]),
        ('compressors = ["sign"]\n' + HEAD + STRATEGY + "trim = 3\n", ["norm", "'sign'"]),
        ('byzantine = [1]\nattacks = ["rumour"]\n' + HEAD + STRATEGY, ["attack", "'rumour'", "sign-flip"]),
        (HEAD + STRATEGY + "trim = 5\n", ["strategy.trim", "half of the 10 nodes", "5"]),
        (HEAD + "epochs = 3\n" + STRATEGY, ["epochs", "is no field of a scenario", "3"]),
        ("title = \n", ["TOML", "line 1"]),
    ],
)
def test_a_bad_suite_is_one_line_that_names_the_file(text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_suite(path)
    line = str(caught.value)
    assert "\n" not in line
    assert "suite.toml" in line
    for word in words:
        assert word in line


def test_a_missing_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"file must be readable, got '.*none\.toml'"):
        Suite.from_toml(tmp_path / "none.toml")
