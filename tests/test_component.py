"""Members of a registry inside members, and flat configs."""

from __future__ import annotations

import pytest

from flwr_robustcomp.component import Component, construct, flattened, nested
from flwr_robustcomp.compressors import COMPRESSORS, QSGD, Drive, LowRank, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.scenario import Scenario


def _make(**table: object) -> object:
    return construct("compressor", COMPRESSORS, Component.model_validate(table))


def test_a_member_inside_a_member() -> None:
    made = _make(name="top-k", ratio=0.01, values={"name": "qsgd", "levels": 4})
    assert made == TopK(ratio=0.01, values=QSGD(levels=4))
    assert _make(name="low-rank", rank=2, vectors="drive") == LowRank(2, vectors=Drive())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("qsg", "compressor.values must be one of .*, got 'qsg'"),
        (
            {"name": "qsgd", "level": 3},
            "values.level is no parameter of 'qsgd', allowed: coding, contraction, levels",
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
    assert nested(flattened({"a": {"b": {"c": 1}, "d": 2}})) == {"a": {"b": {"c": 1}, "d": 2}}


def test_a_value_and_a_table_of_the_same_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"compressor.name must stand in a table"):
        Scenario.from_run_config({"compressor": "sign", "compressor.name": "l1-sign"})
