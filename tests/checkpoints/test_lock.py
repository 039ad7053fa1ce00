"""One run at a time in a folder, and none that a killed run keeps out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
from flwr.app import ArrayRecord, MetricRecord

from flwr_robustcomp import Checkpointed, to_arrays
from flwr_robustcomp.checkpoints.lock import LOCK_FILE, locked
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid
from tests.checkpoints.kit import APP, NODES, START, play
from tests.checkpoints.test_checkpointed import _threshold
from tests.simulations.kit import ROOT


def test_two_runs_in_one_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    refused: list[str] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        with pytest.raises(ConfigurationError) as caught:
            play(Checkpointed(_threshold(), tmp_path), rounds=1, seed=None)
        refused.append(str(caught.value))
        return MetricRecord()

    with InProcessGrid(APP, NODES) as grid:
        Checkpointed(_threshold(), tmp_path).start(grid, to_arrays(START), num_rounds=1, evaluate_fn=evaluate)
    line = f"checkpoint must be used by one run at a time, got {str(tmp_path)!r} in use by process {os.getpid()}"
    assert refused == [line, line]
    assert not (tmp_path / LOCK_FILE).exists()
    play(Checkpointed(_threshold(), tmp_path), rounds=2)


_HOLD = """
import sys
from pathlib import Path
from flwr_robustcomp.checkpoints.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.processes
def test_a_killed_run_keeps_nobody_out(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(ConfigurationError, match=f"in use by process {other.pid}$"), locked(tmp_path):
                pass
        finally:
            other.send_signal(signal.SIGKILL)
            other.wait()
    assert (tmp_path / LOCK_FILE).exists()
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_vanishes_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr_robustcomp.checkpoints import lock

    original, calls = lock._lock, []

    def late(file: BinaryIO) -> None:
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()  # by the run before, which ends between our two steps
        original(file)

    monkeypatch.setattr(lock, "_lock", late)
    with locked(tmp_path):
        assert len(calls) == 2 and (tmp_path / LOCK_FILE).read_text() == str(os.getpid())


def test_a_file_system_without_locks_is_told_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno

    from flwr_robustcomp.checkpoints import lock

    def no_locks(file: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, "_lock", no_locks)
    with caplog.at_level("WARNING", logger="flwr"), locked(tmp_path):
        pass
    assert "This file system has no locks" in caplog.text


def test_a_folder_that_cannot_be_made_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="checkpoint must be a writable folder, got "):
        play(Checkpointed(_threshold(), tmp_path / "file" / "folder"))
