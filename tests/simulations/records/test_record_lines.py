"""Values of another type never get past the reader."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.simulations.records.record_lines import CellLine, CostLine, RoundLine, StartLine

ROUND: dict[str, Any] = {
    "cell": "a",
    "round": 1,
    "error": 0.5,
    "kept": 7,
    "trimmed": [1, 2],
    "rejected": {"3": "wire"},
    "threshold": None,
    "bytes": 60,
    "skipped": None,
    "delta": -0.1,
    "norms": {"honest": [1, 2.0, None]},
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"error": None}, {"error": 3}, {"accuracies": [0.1, 1]}, {"skipped": "too few"}, {"rejected": {str(2**64 - 1): "x"}}],
)
def test_what_a_run_writes_is_a_round(changes: dict[str, Any]) -> None:
    RoundLine.check(ROUND | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": "3"},
        {"round": -1},
        {"round": True},
        {"round": 1.0},
        {"round": None},
        {"round": 10**30},
        {"cell": 3},
        {"error": "0.5"},
        {"error": True},
        {"error": {"deep": 1}},
        {"error": 10**299 * 10**20},
        {"trimmed": 3},
        {"trimmed": ["1"]},
        {"trimmed": [-1]},
        {"trimmed": {}},
        {"rejected": ["3"]},
        {"rejected": {"three": "wire"}},
        {"rejected": {"-3": "wire"}},
        {"rejected": {"3": 4}},
        {"threshold": "1"},
        {"bytes": -1},
        {"bytes": None},
        {"delta": []},
        {"norms": [1, 2, 3]},
        {"norms": {"honest": [1, 2]}},
        {"norms": {"honest": {"0": 1}}},
    ],
)
def test_a_field_of_another_type_is_refused_by_its_name(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"^{name}: ") as caught:
        RoundLine.check(ROUND | changes)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        (CellLine, {"cell": "a"}),
        (CellLine, {"cell": "a", "scenario": []}),
        (CellLine, {"cell": "a", "scenario": {}, "problem": {"metric": "round", "better": "lower"}}),
        (CellLine, {"cell": "a", "scenario": {}, "problem": {"metric": "error", "better": "sideways"}}),
        (CellLine, {"cell": "a", "scenario": {}, "problem": {"metric": "error", "better": "lower", "dimension": 0}}),
        (CellLine, {"cell": "a", "scenario": {}, "guaranteed_delta": 2.0}),
        (CostLine, {"cell": "a", "seconds": "1"}),
        (CostLine, {"cell": "a", "seconds": -1}),
        (CostLine, {"seconds": 1}),
        (StartLine, {}),
        (StartLine, {"command": 3, "started": "", "versions": {}, "machine": {}}),
        (StartLine, {"command": "", "started": "", "versions": [], "machine": {}}),
        (StartLine, {"command": "", "started": "", "versions": {}, "machine": {}, "suites": {"a": 3}}),
    ],
)
def test_lines_of_the_other_files_are_held_too(line: type[CellLine | CostLine | StartLine], bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_]+: "):
        line.check(bad)
