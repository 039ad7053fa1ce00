from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.paper import figure4
from flwr_robustcomp.simulations.paper.figure4 import PANELS, reproduce_figure4
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE
from tests.simulations.problems.test_classification import write_idx

TINY: dict[str, Any] = {
    "rounds": 2,
    "nodes": 6,
    "pairs": ((1, 2),),
    "problem": {"hidden": 4, "eval_examples": 20, "device": "cpu"},
}


def test_the_figure_is_a_picture_and_a_record(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_idx(tmp_path / "data")
    progress: list[tuple[int, int]] = []
    arguments = {**TINY, "data_dir": tmp_path / "data", "runs": 2}
    verdict = reproduce_figure4(tmp_path, **arguments, advance=lambda done, total: progress.append((done, total)))
    lines = verdict.splitlines()
    assert [line.partition(", gamma")[0] for line in lines] == [f"Figure 4 ({panel.title})" for panel in PANELS]
    assert all("with 1 Byzantine nodes and 2 trimmed, the training loss ends at " in line for line in lines)
    assert sum(done for done, _ in progress) == progress[-1][1]
    with Image.open(tmp_path / "figure4.png") as picture:
        picture.load()
        assert picture.width > picture.height > 300
    record = json.loads((tmp_path / "figure4.json").read_text(), parse_constant=pytest.fail)
    pilots = record["settings"]["pilots"]
    assert list(pilots) == ["no error feedback", "error feedback"]
    assert all(len(losses) == 3 for tried in pilots.values() for losses in tried.values())
    assert record["settings"]["problem"]["hidden"] == 4
    assert str(tmp_path) not in json.dumps(record)
    # Two runs without Byzantine nodes, with and without residuals; and each panel's pair.
    assert len(record["curves"]) == 2 + 2 * 3
    for curve in record["curves"]:
        # Each method has the step that its own run without Byzantine nodes ended the search with.
        tried = pilots["error feedback" if curve["error_feedback"] else "no error feedback"]
        assert curve["step_size"] == float(list(tried)[-1])
        assert [len(run) for run in curve["runs"]] == [3, 3]
        assert all([len(trimmed) for trimmed in run] == [curve["trim"]] * 2 for run in curve["trimmed"])
        assert all(len(nodes) == curve["byzantine"] for nodes in curve["byzantine_nodes"])

    before = (tmp_path / ROUNDS_FILE).read_bytes()
    assert reproduce_figure4(tmp_path, **arguments) == verdict
    assert (tmp_path / ROUNDS_FILE).read_bytes() == before  # nothing is run twice


def _records(*trimmed: list[int]) -> list[dict[str, Any]]:
    return [{"round": t, "trimmed": nodes} for t, nodes in enumerate([[], *trimmed])]


@pytest.mark.parametrize(
    ("trimmed", "since"),
    [
        ([[1, 2, 3], [1, 2, 4]], 1),
        ([[1, 3], [1, 2], [1, 2]], 2),
        ([[1, 2], [2, 3], [2, 1]], 3),
        ([[1, 2], [1, 2], [1, 5]], math.inf),
    ],
)
def test_since_when_all_byzantine_nodes_are_trimmed(trimmed: list[list[int]], since: float) -> None:
    assert figure4._all_caught_since(frozenset({1, 2}), _records(*trimmed)) == since


def test_the_panels_are_the_papers() -> None:
    assert [(panel.attack, panel.error_feedback) for panel in PANELS] == [
        ("random-labels", False),
        ("shifted-labels", False),
        ("shifted-labels", True),
    ]
    assert figure4.HIDDEN == 1000


def test_without_data_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="data_dir must be a folder with MNIST's four IDX files") as caught:
        reproduce_figure4(tmp_path, data_dir=tmp_path / "nowhere", **TINY)
    assert "\n" not in str(caught.value)
