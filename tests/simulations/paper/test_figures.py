from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.comparison.plots import draw
from flwr_robustcomp.simulations.paper import figures
from flwr_robustcomp.simulations.paper.figures import FIGURES, PAIRS, reproduce
from flwr_robustcomp.simulations.paper.step_size import inverse_smoothness
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, read_curves
from flwr_robustcomp.simulations.scenario.setup import SCENARIO_STRATEGIES

SETTINGS = {
    "nodes",
    "samples",
    "dimension",
    "noise_variance",
    "rounds",
    "runs",
    "seeds",
    "error",
    "step_size_rule",
    "step_sizes",
    "majority_vote_pilots",
    "versions",
}
CURVE = {"label", "strategy", "compressor", "error_feedback", "byzantine", "trim", "step_size", "runs"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the regression; nodes and pairs stay the paper's."""
    monkeypatch.setattr(figures, "SAMPLES", 400)
    monkeypatch.setattr(figures, "DIMENSION", 20)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_picture_and_a_record(name: str, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    verdict = reproduce(name, tmp_path, runs=1, rounds=3, advance=lambda done, total: progress.append((done, total)))
    assert verdict.startswith(f"Figure {name[-1]}: ")
    assert "\n" not in verdict
    assert sum(done for done, _ in progress) == progress[-1][1]

    with Image.open(tmp_path / f"{name}.png") as picture:
        picture.load()
        assert picture.width > picture.height > 300
    record = json.loads((tmp_path / f"{name}.json").read_text(), parse_constant=pytest.fail)
    assert record.keys() == {"figure", "settings", "curves"}
    settings = record["settings"]
    assert settings.keys() == SETTINGS
    assert settings["versions"].keys() == {"flwr", "flwr-robustcomp", "numpy", "ray", "torch"}
    assert len(settings["majority_vote_pilots"]) == (12 if name == "figure2" else 0)
    assert (settings["nodes"], settings["rounds"], settings["runs"], settings["seeds"]) == (200, 3, 1, [0])
    assert settings["step_sizes"]["gradient"] == pytest.approx(inverse_smoothness(400, 20))
    assert len({entry["label"] for entry in record["curves"]}) == len(FIGURES[name].curves)
    assert {entry["strategy"] for entry in record["curves"]} <= set(SCENARIO_STRATEGIES)
    for entry, curve in zip(record["curves"], FIGURES[name].curves, strict=True):
        assert entry.keys() == CURVE
        assert entry["step_size"] in settings["step_sizes"].values()
        assert entry["label"].startswith(curve.label)
        assert (entry["byzantine"], entry["trim"]) == (curve.byzantine, curve.trim)
        assert [len(run) for run in entry["runs"]] == [3]
        assert all(math.isfinite(error) for error in entry["runs"][0])


def test_a_second_figure_reuses_the_rounds_of_the_first(tmp_path: Path) -> None:
    reproduce("figure1", tmp_path, runs=1, rounds=2)
    known = read_curves(tmp_path)
    before = (tmp_path / ROUNDS_FILE).read_bytes()
    reproduce("figure1", tmp_path, runs=1, rounds=2)
    assert (tmp_path / ROUNDS_FILE).read_bytes() == before
    reproduce("figure2", tmp_path, runs=1, rounds=2)
    new = read_curves(tmp_path).keys() - known.keys()
    assert len(new) == 3 + 12  # majority vote, and its pilots


def test_figures_show_the_papers_settings() -> None:
    assert PAIRS == ((5, 7), (10, 12), (20, 22))
    assert sorted(FIGURES) == ["figure1", "figure2", "figure3"]
    assert {curve.error_feedback for curve in FIGURES["figure3"].curves} == {True}
    for figure in FIGURES.values():
        assert {(c.byzantine, c.trim) for c in figure.curves if c.strategy == figures.THRESHOLD} == set(PAIRS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "figure4"}, ["figure", "'figure4'", "figure1, figure2, figure3"]),
        ({"runs": 0}, ["runs", "at least 1", "0"]),
        ({"rounds": 0}, ["rounds", "at least 1", "0"]),
        ({"seed": -1}, ["seed", "at least 0", "-1"]),
        ({"jobs": 0}, ["jobs", "at least 1", "0"]),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reproduce(**{"name": "figure1", "out": tmp_path, "runs": 1, "rounds": 1, **change})
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("metric", ["error", "accuracy", "loss"])
@pytest.mark.parametrize("value", [0.5, math.inf, 0.0])
def test_a_picture_can_be_drawn_of_any_curve(tmp_path: Path, metric: str, value: float) -> None:
    lines = [(f"line {i}", [[value] * 3, [value, 1.0, value]]) for i in range(10)]
    draw(tmp_path / "new" / "p.png", "T", [("a", lines), ("b", lines[:1])], metric=metric)
    with Image.open(tmp_path / "new" / "p.png") as picture:
        picture.load()


def test_a_picture_that_cannot_be_saved_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="out must be a writable folder"):
        draw(tmp_path / "file" / "p.png", "T", [("a", [("l", [[1.0]])])], metric="error")
