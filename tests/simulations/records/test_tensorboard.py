from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import run_scenario
from flwr_robustcomp.simulations.records.tensorboard import tensorboard
from flwr_robustcomp.simulations.runs.sweep import run_cells
from tests.simulations.kit import small


class Writer:
    """Stands in for torch's SummaryWriter."""

    def __init__(self, folder: str) -> None:
        self.folder, self.scalars, self.closed = folder, dict[tuple[str, int], float](), False
        WRITERS.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars[tag, step] = value

    def close(self) -> None:
        self.closed = True


WRITERS: list[Writer] = []


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    WRITERS.clear()
    return WRITERS


def test_every_number_of_every_round_is_a_scalar(tmp_path: Path, writers: list[Writer]) -> None:
    scenario = small()
    with tensorboard(tmp_path, {scenario.key: "noise/seed 0"}) as write:
        run_cells([scenario], tmp_path / "out", observe=write)
    (writer,) = writers
    assert writer.folder == str(tmp_path / "noise" / "seed 0")
    assert writer.closed
    for record in run_scenario(scenario):
        assert writer.scalars["error", record["round"]] == record["error"]
    assert writer.scalars["trimmed", 2] == 3
    assert writer.scalars["norm/byzantine", 2] > writer.scalars["norm/honest", 2]


def test_without_a_folder_nothing_is_imported_or_written(writers: list[Writer]) -> None:
    with tensorboard(None, {}) as write:
        write("cell", {"round": 0, "error": 1.0})
    assert writers == []


def test_a_missing_package_is_one_line_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'flwr-robustcomp\[tensorboard\]'"):
        tensorboard(tmp_path, {}).__enter__()


def test_the_real_package_writes_its_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tensorboard(tmp_path, {"cell": "name"}) as write:
        write("cell", {"round": 0, "error": 1.0})
    assert list((tmp_path / "name").glob("events.out.tfevents.*"))
