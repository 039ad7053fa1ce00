from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flwr_robustcomp.simulations.comparison.compare import compare
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, read_curves
from flwr_robustcomp.simulations.scenario.suite import Suite
from tests.simulations.kit import DIGITS, SMALL


def _suite(base: dict[str, Any], **fields: Any) -> Suite:
    strategies = [
        {"name": "norm-threshold", "trim": "byzantine+1", "step_size": 0.4, "label": "ours"},
        {"name": "fed-avg", "step_size": 0.4},
    ]
    fields = {"title": "A title", "strategies": strategies, "byzantine": [0, 2], **fields}
    return Suite.model_validate({**fields, "base": {key: base[key] for key in ("problem", "nodes", "rounds")}})


def test_suites_are_compared_together(tmp_path: Path) -> None:
    suites = {
        "squares": _suite(SMALL, seeds=[0, 1], compressors=["l1-sign", "qsgd"]),
        "digits": _suite(DIGITS, attacks=["shifted-labels", "sign-flip"]),
    }
    done: list[int] = []
    findings = compare(suites, tmp_path / "out", jobs=1, advance=done.append)
    cells = [cell for suite in suites.values() for cell in suite.cells()]
    assert len(cells) == 16 + 6
    assert sum(done) == 3 * len(cells)
    curves = read_curves(tmp_path / "out")
    assert curves.keys() == {cell.scenario.key for cell in cells}

    for (name, suite), finding in zip(suites.items(), findings, strict=True):
        assert (finding.suite, finding.nodes) == (suite, 10)
        assert finding.picture == tmp_path / "out" / f"{name}.png"
        with Image.open(finding.picture) as picture:
            picture.load()
        assert finding.sentence.startswith("A title, 2 of 10 nodes Byzantine (")
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert record.keys() == {"suite", "sentence", "cells"}
        assert record["sentence"] == finding.sentence
        assert Suite.model_validate(record["suite"]) == suite
        assert [entry["cell"] for entry in record["cells"]] == [cell.scenario.key for cell in suite.cells()]
        assert record["cells"][0].keys() == {"cell", "byzantine", "attack", "compressor", "strategy", "seed"}
        assert len(finding.rows) == len({cell.group for cell in suite.cells()})

    final = curves[cells[0].scenario.key][-1]["error"], curves[cells[1].scenario.key][-1]["error"]
    assert findings[0].rows[0].final == pytest.approx(sum(final) / 2)


def test_a_second_comparison_takes_what_is_there(tmp_path: Path) -> None:
    (first,) = compare({"a": _suite(SMALL)}, tmp_path, jobs=1)
    before = (tmp_path / ROUNDS_FILE).read_bytes()
    (second,) = compare({"a": _suite(SMALL)}, tmp_path, jobs=1)
    assert second == first
    assert (tmp_path / ROUNDS_FILE).read_bytes() == before


def test_runs_that_diverge_are_told_as_such(tmp_path: Path) -> None:
    strategies = [{"name": "norm-threshold", "step_size": 1e38, "label": "bold"}]
    (finding,) = compare({"a": _suite({**SMALL, "rounds": 6}, strategies=strategies)}, tmp_path, jobs=1)
    assert "bold ends at error diverged (diverged when all are honest)" in finding.sentence
    assert finding.picture.exists()
