"""Members of a registry inside members, and flat configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from flwr_robustcomp.clients import poison_of
from flwr_robustcomp.clients.label_attack import LABEL_RECORD
from flwr_robustcomp.component import Component, build, flatten, unflatten
from flwr_robustcomp.compressors import COMPRESSORS, QSGD, ByName, ByShape, Drive, Identity, LowRank, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import build_compressor
from flwr_robustcomp.simulations.runs.run import run_scenario
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import check_components


def _make(**table: object) -> object:
    return build("compressor", COMPRESSORS, Component.model_validate(table))


def test_a_member_inside_a_member() -> None:
    made = _make(name="top-k", ratio=0.01, values={"name": "qsgd", "levels": 4})
    assert made == TopK(ratio=0.01, values=QSGD(levels=4))
    choice = {"name": "by-shape", "matrices": {"name": "low-rank", "rank": 2}, "vectors": "drive"}
    assert build_compressor("compressor", Component.model_validate(choice)) == ByShape(LowRank(2), Drive())
    inside = {"name": "by-name", "patterns": "head.*", "matching": "identity", "others": choice}
    made = build_compressor("compressor", Component.model_validate(inside))
    assert made == ByName("head.*", Identity(), ByShape(LowRank(2), Drive()))


def test_a_member_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigurationError, match=r"compressor\.values must be one of cross-polytope, .*, got 'by-shape'"):
        build_compressor("compressor", Component.model_validate({"name": "top-k", "ratio": 0.1, "values": "by-shape"}))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("qsg", "compressor.values must be one of .*, got 'qsg'"),
        (
            {"name": "qsgd", "level": 3},
            "values.level is no parameter of 'qsgd', allowed: bucket, coding, contraction, levels",
        ),
        (3, "compressor.values must be a name, or a table with a name, got 3"),
        ({"levels": 3}, "compressor.values must be a name, or a table with a name"),
        ({"name": "top-k", "k": 2, "values": "qsgd"}, "values must be a Compressor that is not composed itself"),
    ],
)
def test_a_bad_inner_member_is_named(values: object, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        _make(name="top-k", ratio=0.01, values=values)


def test_nested_tables_survive_the_run_config() -> None:
    scenario = Scenario.parse(
        {"compressor": {"name": "top-k", "ratio": 0.1, "values": {"name": "qsgd", "levels": 4}}, "nodes": 10, "rounds": 1}
    )
    flat = scenario.to_run_config()
    assert flat["compressor.values.levels"] == 4
    assert Scenario.from_run_config(flat) == scenario
    assert unflatten(flatten({"a": {"b": {"c": 1}, "d": 2}})) == {"a": {"b": {"c": 1}, "d": 2}}


def test_a_value_and_a_table_of_the_same_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"compressor.name must stand in a table"):
        Scenario.from_run_config({"compressor": "sign", "compressor.name": "l1-sign"})


OWN = """
from dataclasses import dataclass

from flwr.serverapp.strategy import FedAvg

from flwr_robustcomp import L1Sign
from flwr_robustcomp.clients import LabelAttack, UpdateAttack
from flwr_robustcomp.filters import Norm
from flwr_robustcomp.simulations.attacks import Collusion
from flwr_robustcomp.simulations.problems import LeastSquares
from flwr_robustcomp.strategies import NormThreshold


@dataclass(frozen=True)
class Codec(L1Sign):
    name = "own-sign"


class Borrowed(L1Sign):
    pass


class Negated(UpdateAttack):
    name = "negated"

    def __init__(self, factor: float = -2.0, **options):
        super().__init__(**options)
        self.factor = factor

    def transform(self, x, rng):
        return x.mul_(self.factor)


class Relabelled(LabelAttack):
    name = "relabelled"

    def relabel(self, labels, num_classes, rng):
        return 0 * labels


@dataclass(frozen=True)
class Silence(Collusion):
    name = "silence"

    def craft(self, seen, state):
        return 0 * seen.mean, state


@dataclass(frozen=True)
class Same(Norm):
    name = "same"


class Threshold(NormThreshold):
    pass


class Mean(FedAvg):
    pass


def problem(nodes, seed, *, dimension: int = 8):
    return LeastSquares(nodes, seed, samples=4 * nodes, dimension=dimension)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of somebody else's on the import path."""
    (tmp_path / "somebodys_parts.py").write_text(OWN)
    (tmp_path / "somebodys_broken.py").write_text("raise RuntimeError('two\\nlines')")
    monkeypatch.syspath_prepend(tmp_path)


def _scenario(**changes: object) -> Scenario:
    small = {"problem": {"name": "somebodys_parts:problem", "dimension": 12}, "nodes": 6, "byzantine": 2, "rounds": 2}
    return Scenario.parse({**small, **changes})


def _threshold(name: str) -> dict[str, object]:
    return {"name": name, "trim": 2, "step_size": 0.1}


@pytest.mark.parametrize("adversary", ["restricted", "arbitrary"])
@pytest.mark.parametrize("attack", ["Negated", "Silence"])
@pytest.mark.usefixtures("own")
def test_parts_of_ones_own_run_like_those_they_copy(attack: str, adversary: str) -> None:
    """Compressor, attack, problem and strategy by import path; packed, attacked after packing, decoded and averaged."""
    copied = {"Negated": {"name": "scaling", "factor": -2.0}, "Silence": {"name": "zero"}}[attack]
    common = {"adversary": adversary, "seed": 3}
    own = _scenario(
        compressor="somebodys_parts:Codec",
        attack=f"somebodys_parts:{attack}",
        strategy=_threshold("somebodys_parts:Threshold"),
        **common,
    )
    theirs = _scenario(compressor="l1-sign", attack=copied, strategy=_threshold("norm-threshold"), **common)
    assert [record["error"] for record in run_scenario(own)] == [record["error"] for record in run_scenario(theirs)]


@pytest.mark.usefixtures("own")
def test_an_attack_on_labels_of_ones_own() -> None:
    digits: dict[str, Any] = {
        "problem": {"name": "digits", "hidden": 4},
        "nodes": 4,
        "rounds": 1,
        "strategy": _threshold("fed-avg"),
    }
    del digits["strategy"]["trim"]
    own = run_scenario(Scenario.parse({**digits, "byzantine": 3, "attack": "somebodys_parts:Relabelled"}))
    honest = run_scenario(Scenario.parse({**digits, "byzantine": 0}))
    assert own[-1]["loss"] != honest[-1]["loss"]


@pytest.mark.usefixtures("own")
def test_a_filter_and_a_flower_strategy_of_ones_own() -> None:
    chained = {"name": "robust-compressed", "trim": 2, "step_size": 0.1}
    own = run_scenario(_scenario(strategy={**chained, "filters": "somebodys_parts:Same"}))
    assert own == run_scenario(_scenario(strategy={**chained, "filters": "norm"}))
    mean = run_scenario(_scenario(strategy={"name": "somebodys_parts:Mean", "step_size": 0.1}))
    assert mean == run_scenario(_scenario(strategy={"name": "fed-avg", "step_size": 0.1}))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"compressor": "l1_sign"}, "compressor must be one of .*, or an import path package.module:Name, got 'l1_sign'"),
        ({"compressor": "nowhere.parts:Codec"}, "compressor must be importable .*'nowhere.parts:Codec': No module named"),
        ({"compressor": "somebodys_parts:Codex"}, "must be importable .* has no attribute 'Codex'"),
        ({"compressor": "somebodys_broken:Codec"}, "must be importable .*'somebodys_broken:Codec': two$"),
        ({"compressor": ":"}, "must be importable .* got ':': Empty module name"),
        ({"compressor": "somebodys_parts:Negated"}, "compressor must name a subclass of Compressor or Choice, got"),
        ({"compressor": "somebodys_parts:Borrowed"}, "its class attribute name must be .*, got 'l1-sign'"),
        ({"compressor": {"name": "somebodys_parts:Codec", "k": 1}}, "compressor.k is no parameter of .*, allowed: plus_zero"),
        ({"attack": "somebodys_parts:Codec"}, "attack must name a subclass of UpdateAttack or LabelAttack or Collusion"),
        ({"attack": "somebodys_parts:Relabelled"}, "attack must be one on updates for the problem"),
        ({"strategy": "somebodys_parts:Codec"}, "strategy must name a subclass of FedAvg"),
        (
            {"strategy": {"name": "robust-compressed", "filters": "somebodys_parts:Codec"}},
            "filters must name a subclass of Filt",
        ),
        ({"problem": "somebodys_parts:OWN"}, "problem must be importable .* has no attribute 'OWN'"),
        ({"problem": "builtins:dict"}, "problem must have the attributes of problems.Problem, got 'dict'"),
    ],
)
def test_parts_that_cannot_be_used_are_one_line(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        check_components(_scenario(**changes))
    assert "\n" not in str(caught.value)


def test_a_message_cannot_name_what_is_imported() -> None:
    """A message may name an attack on labels that this process knows, and nothing else is looked for."""
    record = ConfigRecord({"attack": "somebodys_parts:Relabelled", "seed": 0, "partition": 0})
    message = Message(RecordDict({LABEL_RECORD: record}), dst_node_id=1, message_type="train")
    with pytest.raises(ConfigurationError, match="label attack must be a LabelAttack that this app lists"):
        poison_of(message)
