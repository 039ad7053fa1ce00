from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.simulations.comparison.compare import compare
from flwr_robustcomp.simulations.records.provenance import note_start
from flwr_robustcomp.simulations.report import report
from flwr_robustcomp.simulations.scenario.suite import Suite

STRATEGIES: list[dict[str, Any]] = [
    {"name": "norm-threshold", "trim": "byzantine+1", "step_size": 0.4, "label": "ours"},
    {"name": "fed-avg", "step_size": 0.4},
    {"name": "majority-vote", "compressor": "sign", "step_size": 0.01, "label": "<vote> & co"},
]

SUITES = {
    "digits": Suite.model_validate(
        {
            "title": "Tiny digits",
            "base": {"nodes": 10, "rounds": 4, "problem": {"name": "digits", "hidden": 4}},
            "strategies": STRATEGIES,
            "compressors": ["l1-sign", {"name": "top-k", "k": 20}],
            "attacks": ["shifted-labels", {"name": "gaussian-noise", "variance": 50.0}],
            "byzantine": [0, 2],
            "seeds": [0, 1],
        }
    ),
    "squares": Suite.model_validate(
        {
            "title": "Tiny squares",
            "base": {"nodes": 10, "rounds": 4, "problem": {"name": "least-squares", "samples": 80, "dimension": 12}},
            "strategies": STRATEGIES[:2],
            "byzantine": [0, 2],
        }
    ),
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of two suites; tests must not write to it."""
    out = tmp_path_factory.mktemp("comparison")
    note_start(out, ["compare", "digits.toml", "squares.toml"], SUITES)
    compare(SUITES, out, jobs=1)
    return out


@pytest.fixture(scope="session")
def page(folder: Path) -> Path:
    """Its report."""
    path, _, _ = report(folder)
    return path
