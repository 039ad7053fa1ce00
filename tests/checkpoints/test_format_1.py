"""Checkpoints that version 0.1.0 wrote go on, histories and records included."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp import Checkpointed
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE, HISTORY_FILE, read_snapshot
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.records.record import RoundRecord
from tests.checkpoints.damage import replaced, rewrite
from tests.checkpoints.kit import play
from tests.checkpoints.test_checkpointed import _momentum

GOLDEN = Path(__file__).parent / "golden"

SCENARIO = {
    "nodes": 4,
    "byzantine": 1,
    "rounds": 5,
    "error_feedback": True,
    "compressor": {"name": "top-k", "k": 2},
    "problem": {"name": "least-squares", "samples": 24, "dimension": 6},
    "strategy": {"name": "norm-threshold", "trim": 1, "step_size": 0.2},
}
"""What golden/format-1-scenario.npz was written for, after round 3."""


def _lay_out(name: str, folder: Path) -> Path:
    return Path(shutil.copy(GOLDEN / f"format-1-{name}.npz", folder / CHECKPOINT_FILE))


def test_a_scenario_goes_on_with_its_records(tmp_path: Path) -> None:
    path = _lay_out("scenario", tmp_path)
    found = read_snapshot(path)
    assert found is not None and found.round_ == 3 and len(found.nodes) == 4
    assert sorted(found.records) == ["app", "model", "strategy"] and dict(found.records["app"]) == {}
    kept = [note for entry in found.rounds for note in entry.notes]
    assert [note["error"] for note in kept] == [
        1.7094884588033572,
        1.5683159791931383,
        1.2935950012194455,
        1.2056484662729967,
    ]
    seen: list[RoundRecord] = []
    records = run_scenario(Scenario.parse(SCENARIO), checkpoint=tmp_path, observe=seen.append)
    assert records == [*kept, *seen] and [record["round"] for record in seen] == [4, 5]
    # From now on the history stands beside it, and holds the early rounds too.
    found = read_snapshot(path)
    assert found is not None and found.rounds == () and found.history.lines == 6
    assert (tmp_path / HISTORY_FILE).stat().st_size == found.history.size
    assert run_scenario(Scenario.parse(SCENARIO), checkpoint=tmp_path) == records


def test_a_strategy_goes_on_with_its_histories(tmp_path: Path) -> None:
    path = _lay_out("momentum", tmp_path)
    found = read_snapshot(path)
    assert found is not None
    told_then = {name: list(record.items()) for entry in found.rounds for name, record in entry.metrics.items()}
    assert len(found.rounds) == 4 and len(told_then) == 3
    for _ in range(2):  # the second time from format 2
        result = play(Checkpointed(_momentum(), tmp_path), rounds=4, seed=8)
        assert list(result.train_metrics_clientapp) == [1, 2, 3, 4]
        assert list(result.evaluate_metrics_serverapp) == [0, 1, 2, 3, 4]
        assert list(result.evaluate_metrics_clientapp[3].items()) == told_then["evaluate_metrics_clientapp"]
        assert result.evaluate_metrics_serverapp[0]["noise"] == 1.764052345967664


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("records", "train_metrics_clientapp", 0, 0), "one"),
        (("records", "train_metrics_clientapp", 0, 1), "config"),
        (("records", "app", 0, 2, 0, 0), "none"),
        (("records", "app", 0, 2, 0, 1), ["[" * 10**5]),
        (("records", "app", 0, 2, 0, 1), ['{"round": "1"}']),
        (("records", "app", 0, 2, 0, 1), [1]),
    ],
)
def test_garbage_in_its_histories_is_refused_in_one_line(place: Any, value: Any, tmp_path: Path) -> None:
    path = _lay_out("scenario", tmp_path)
    rewrite(path, lambda manifest: replaced(manifest, place, value))
    with pytest.raises(ConfigurationError, match=r"^checkpoint must be whole, got ") as caught:
        read_snapshot(path)
    assert str(caught.value).isprintable()
