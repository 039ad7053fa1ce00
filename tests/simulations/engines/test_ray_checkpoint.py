"""A run that stops on one engine and goes on, on another: states of nodes travel to and from Ray's actors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.simulations import run_scenario
from flwr_robustcomp.simulations.records.record import RoundRecord
from tests.simulations.kit import small

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ray")]

SCENARIO = small(error_feedback=True, compressor={"name": "top-k", "k": 2}, rounds=6)


class _Stopped(Exception):
    pass


def _stop(folder: Path, at: int, **options: Any) -> None:
    def observe(record: RoundRecord) -> None:
        if record["round"] == at:
            raise _Stopped

    with pytest.raises(_Stopped):
        run_scenario(SCENARIO, checkpoint=folder, observe=observe, **options)


def test_a_run_may_change_its_engine(tmp_path: Path) -> None:
    _stop(tmp_path, 3, engine="ray", num_workers=2)
    _stop(tmp_path, 4)
    assert run_scenario(SCENARIO, checkpoint=tmp_path, engine="ray", num_workers=1) == run_scenario(SCENARIO)
