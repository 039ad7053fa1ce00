from __future__ import annotations

import json
import math
import pickle
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import Scenario
from flwr_robustcomp.simulations.problems import PROBLEMS, LeastSquares, sources
from flwr_robustcomp.simulations.scenario import setup
from flwr_robustcomp.simulations.scenario.setup import check_all, check_components, make_strategy
from flwr_robustcomp.strategies import NormThreshold
from tests.simulations.bad_inputs import BAD, COMMON
from tests.simulations.kit import ROOT, small

FULL = """
nodes = 20
byzantine = 4
adversary = "arbitrary"
error_feedback = true
granularity = "array"
rounds = 7
seed = 12
attack = "sign-flip"

[problem]
name = "digits"
hidden = 8

[compressor]
name = "top-k"
ratio = 0.25

[strategy]
name = "norm-threshold"
trim = "byzantine+2"
step_size = 0.5
"""

scenarios = st.builds(
    lambda nodes, byzantine, trim, step, k, feedback, granularity, adversary, rounds, seed: small(
        nodes=nodes,
        problem={"name": "least-squares", "samples": 3 * nodes, "dimension": 9},
        byzantine=min(byzantine, nodes),
        strategy={"name": "norm-threshold", "trim": trim, "step_size": step},
        compressor={"name": "top-k", "k": k},
        error_feedback=feedback,
        granularity=granularity,
        adversary=adversary,
        rounds=rounds,
        seed=seed,
    ),
    nodes=st.integers(1, 30),
    byzantine=st.integers(0, 30),
    trim=st.one_of(st.just(0), st.just(0.0)),
    step=st.floats(1e-6, 1e6),
    k=st.integers(1, 9),
    feedback=st.booleans(),
    granularity=st.sampled_from(["model", "array"]),
    adversary=st.sampled_from(["restricted", "arbitrary"]),
    rounds=st.integers(1, 10**6),
    seed=st.integers(0, 2**63 - 1),
)


def _file(path: Path, text: str) -> Path:
    file = path / "scenario.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_says_what_the_constructor_says(tmp_path: Path) -> None:
    read = Scenario.from_toml(_file(tmp_path, FULL))
    assert read == Scenario.parse(tomllib.loads(FULL))
    assert read.attack.name == "sign-flip"  # a name alone is a component
    assert read.compressor.params == {"ratio": 0.25}
    assert read.strategy.params == {"trim": "byzantine+2", "step_size": 0.5}
    assert (read.nodes, read.rounds, read.seed, read.error_feedback, read.granularity) == (20, 7, 12, True, "array")


@pytest.mark.parametrize("name", ["scenario.toml"])
def test_the_example_is_a_scenario(name: str) -> None:
    assert Scenario.from_toml(ROOT / "examples" / name).nodes == 200


@given(scenarios)
def test_run_config_is_flat_and_back_again(scenario: Scenario) -> None:
    flat = scenario.to_run_config()
    assert all(isinstance(value, str | int | float | bool) for value in flat.values())
    assert Scenario.from_run_config(flat) == scenario
    assert Scenario.from_run_config({**flat, "record": "", "somebody.else": 1}) == scenario
    assert Scenario.from_run_config(json.loads(json.dumps(flat))) == scenario


def test_flwr_run_config_of_the_project_is_a_scenario() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    nested: dict[str, Any] = project["tool"]["flwr"]["app"]["config"]
    flat: dict[str, Any] = {
        key if not isinstance(value, dict) else f"{key}.{name}": value if not isinstance(value, dict) else inner
        for key, value in nested.items()
        for name, inner in (value.items() if isinstance(value, dict) else [("", None)])
    }
    scenario = Scenario.from_run_config(flat)
    assert (scenario.nodes, scenario.problem.name) == (10, "digits")
    # Flower lets `--run-config` override only what is there: every field must be.
    assert {key.partition(".")[0] for key in flat} == {*Scenario.model_fields, "record"}


def test_key_is_golden() -> None:
    # A changed key makes every record on users' disks unreadable to `compare`: change it knowingly.
    assert Scenario().key == "a7cc1ac9de48a8df"
    assert small().key == "e9924978d6249ee5"


@given(scenarios, scenarios)
def test_keys_are_equal_for_equal_scenarios_only(one: Scenario, other: Scenario) -> None:
    assert (one.key == other.key) == (one == other)
    assert one.key == pickle.loads(pickle.dumps(one)).key == Scenario.parse(one.model_dump()).key
    assert len(one.key) == 16
    assert int(one.key, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rounds": 4},
        {"error_feedback": True},
        {"granularity": "array"},
        {"adversary": "arbitrary"},
        {"attack": "sign-flip"},
        {"compressor": {"name": "top-k", "k": 2}},
        {"strategy": {"name": "norm-threshold", "trim": 3, "step_size": 0.5}},
    ],
)
def test_every_field_enters_the_key(change: dict[str, Any]) -> None:
    assert small(**change).key != small().key
    assert small().varied(**change) == small(**change)


def test_scenarios_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        small().seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        small().strategy.name = "krum"


@pytest.mark.parametrize(("trim", "count"), [("byzantine+2", 4), ("byzantine", 2), (" byzantine + 1 ", 3), (4, 4)])
def test_trim_may_follow_the_byzantine_count(trim: str | int, count: int) -> None:
    strategy = make_strategy(small(strategy={"name": "norm-threshold", "trim": trim}))
    assert isinstance(strategy, NormThreshold)
    assert strategy.trim == count


@pytest.mark.parametrize("order", [1, 2, 2.0, math.inf])
def test_norm_orders_survive_the_run_config(order: float) -> None:
    scenario = small(strategy={"name": "norm-threshold", "norm": "reported", "norm_order": order})
    assert Scenario.from_run_config(scenario.to_run_config()) == scenario


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_that_says_what_is_allowed(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    with pytest.raises(ConfigurationError) as caught:
        check_components(Scenario.from_toml(_file(tmp_path, text)))
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_good_file_differs_from_the_bad_ones_in_nothing_else(tmp_path: Path) -> None:
    scenario = Scenario.from_toml(_file(tmp_path, COMMON))
    check_components(scenario)
    assert scenario.nodes == 10


@pytest.mark.parametrize("field", ["problem", "attack", "compressor", "strategy"])
def test_reading_a_scenario_imports_nothing(field: str, marker: Path) -> None:
    scenario = small(**{field: {"name": "robustcomp_trap:Trap", "size": 3}})
    assert Scenario.from_run_config(scenario.to_run_config()) == scenario.varied() == scenario
    assert not marker.exists()
    with pytest.raises(ConfigurationError, match=f"{field} .*robustcomp_trap:Trap|{field}.size"):
        check_components(scenario)
    assert marker.exists()


def test_reading_a_scenario_downloads_and_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**given: Any) -> None:
        raise ConnectionError("no network at all")

    monkeypatch.setattr("flwr_datasets.FederatedDataset", offline)
    sources._load.cache_clear()
    scenario = small(problem={"name": "classification", "data": "mnist"})
    assert small(problem={"name": "least-squares", "samples": 10**15}).nodes == 10
    with pytest.raises(ConfigurationError, match="no network at all"):
        check_components(scenario)


def test_equal_problems_are_made_once_for_many_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counted(LeastSquares):
        def __init__(self, nodes: int, seed: int, **params: Any) -> None:
            made.append(seed)
            super().__init__(nodes, seed, **params)

    monkeypatch.setitem(PROBLEMS, "least-squares", Counted)
    setup._problem.cache_clear()
    check_all([small(seed=seed, rounds=rounds) for rounds in (1, 2) for seed in (5, 4, 3, 2)])
    setup._problem.cache_clear()  # what was counted must not stay for other tests
    assert made == [2, 3, 4, 5]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"file must be readable, got '.*nowhere\.toml': No such file"):
        Scenario.from_toml(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        Scenario.from_toml(tmp_path)


def test_bytes_that_are_no_text_are_no_scenario(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_bytes(b"\xff\xfe\x00rounds = 3")
    with pytest.raises(ConfigurationError, match=r"file must be TOML, got .*scenario\.toml"):
        Scenario.from_toml(file)
