"""The history grows by what a round added, and the checkpoint says how much of it counts."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from flwr.app import MetricRecord
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import Checkpointed
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE, HISTORY_FILE, read_snapshot
from flwr_robustcomp.checkpoints.history import HISTORIES, Entry, Mark, append_history, read_history
from flwr_robustcomp.errors import ConfigurationError
from tests.checkpoints.damage import JSON
from tests.checkpoints.kit import Stopped, play, told
from tests.checkpoints.test_checkpointed import _momentum, _threshold

_VALUES: st.SearchStrategy[int | float | list[int] | list[float]] = st.one_of(
    st.integers(-(2**63), 2**64), st.floats(), st.lists(st.floats(), max_size=3)
)
_METRICS = st.dictionaries(st.text(max_size=5), _VALUES, max_size=3).map(MetricRecord)
_ENTRIES = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(HISTORIES), _METRICS), st.lists(JSON, max_size=2)), min_size=1, max_size=5
).map(lambda rounds: [Entry(number, metrics, tuple(notes)) for number, (metrics, notes) in enumerate(rounds)])


_FULL = r"^checkpoint must be a writable folder, got .*: No space left on device$"


def _three(path: Path) -> Mark:
    return append_history(
        path, Mark(), [Entry(n, {HISTORIES[0]: MetricRecord({"x": n / 3})}, ({"round": n},)) for n in range(3)]
    )


@given(_ENTRIES, st.integers(0, 5), st.binary(max_size=30))
def test_entries_come_back_exactly_up_to_each_mark(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], split: int, beyond: bytes
) -> None:
    path = tmp_path_factory.mktemp("history") / HISTORY_FILE
    first = append_history(path, Mark(), entries[:split])
    second = append_history(path, first, entries[split:])
    with path.open("ab") as file:
        file.write(beyond)  # of a run that was killed
    assert repr(read_history(path, first)) == repr(entries[:split])
    assert repr(read_history(path, second)) == repr(entries)
    third = append_history(path, first, entries[split:])
    assert (third, path.stat().st_size) == (second, second.size) or not entries[split:]


def test_every_line_is_json_of_its_own(tmp_path: Path) -> None:
    mark = _three(tmp_path / HISTORY_FILE)
    lines = [json.loads(line) for line in (tmp_path / HISTORY_FILE).read_text(encoding="ascii").splitlines()]
    assert [line["entry"]["round"] for line in lines] == [0, 1, 2]
    assert int(lines[-1]["crc32"], 16) == mark.crc32


def test_every_flipped_byte_and_truncation_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    mark, data = _three(path), path.read_bytes()
    changed = [
        data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :] for place in range(len(data)) for mask in (1, 128)
    ]
    for other in [*changed, *(data[:size] for size in range(len(data)))]:
        path.write_bytes(other)
        with pytest.raises(ConfigurationError, match=r"^checkpoint must be whole, got .*checkpoint\.jsonl") as caught:
            read_history(path, mark)
        assert str(caught.value).isprintable()
        assert path.read_bytes() == other
    path.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        read_history(path, mark)


def test_the_history_of_another_run_is_refused(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 1)):
        play(Checkpointed(_threshold(), tmp_path / folder), rounds=2, seed=seed)
    os.replace(tmp_path / "a" / HISTORY_FILE, tmp_path / "b" / HISTORY_FILE)
    with pytest.raises(ConfigurationError, match="checkpoint must be whole"):
        play(Checkpointed(_threshold(), tmp_path / "b"), rounds=3)


@pytest.mark.parametrize("left", [b'{"crc32": "0000', b"whatever\n" * 30])
def test_what_a_killed_run_left_behind_is_cut_off_when_the_run_goes_on(left: bytes, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        play(Checkpointed(_momentum(), tmp_path), stop_at=4)
    with (tmp_path / HISTORY_FILE).open("ab") as file:
        file.write(left)
    assert told(play(Checkpointed(_momentum(), tmp_path), seed=9)) == told(play(_momentum()))
    assert left[:9] not in (tmp_path / HISTORY_FILE).read_bytes()[-60:]
    assert told(play(Checkpointed(_momentum(), tmp_path), seed=9)) == told(play(_momentum()))


def test_a_late_round_writes_as_much_as_an_early_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))
    play(Checkpointed(_threshold(), tmp_path), rounds=100)
    history, snapshots = sizes[0::3], sizes[1::3]  # and the folder
    assert len(history) == len(snapshots) == 101
    written = [after - before + whole for before, after, whole in zip(history, history[1:], snapshots[1:], strict=False)]
    # Not the first rounds, whose nodes have no residuals yet. The generators' states have more or fewer digits.
    assert max(written[80:]) < 1.02 * max(written[20:40])


def test_notes_are_those_of_the_whole_run(tmp_path: Path) -> None:
    def run(rounds: int, stop_at: int | None = None) -> list[Any]:
        strategy = Checkpointed(_threshold(), tmp_path)
        original = strategy.aggregate_train

        def aggregate(server_round: int, replies: Any) -> Any:
            strategy.note({"counted": server_round})
            return original(server_round, replies)

        strategy.aggregate_train = aggregate  # type: ignore[method-assign]
        play(strategy, rounds=rounds, stop_at=stop_at)
        return strategy.notes

    with pytest.raises(Stopped):
        run(6, stop_at=3)
    assert run(4) == [
        {"counted": n} for n in (1, 2, 1, 2)
    ]  # Flower counts from 1 again; the round that was cut off is not there
    with pytest.raises(ConfigurationError, match="note must be a JSON value, got a set"):
        Checkpointed(_threshold(), tmp_path).note({1})


@pytest.mark.parametrize("which", ["history", "snapshot"])
def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays_whole(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped):
        play(Checkpointed(_momentum(), tmp_path), stop_at=3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = iter([which == "history", True])

    def full(number: int) -> None:
        if next(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            ConfigurationError, match=r"^checkpoint must be a writable folder, got .*: No space left on device$"
        ):
            play(Checkpointed(_momentum(), tmp_path))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()  # no checkpoint.part, no lock
    assert after[CHECKPOINT_FILE] == before[CHECKPOINT_FILE]
    assert told(play(Checkpointed(_momentum(), tmp_path), seed=2)) == told(play(_momentum()))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stopped):
        play(Checkpointed(_momentum(), tmp_path), stop_at=3)
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest: real("/dev/full", os.O_WRONLY) if ".part" in str(path) else real(path, *rest)
    )
    with pytest.raises(ConfigurationError, match=_FULL):
        play(Checkpointed(_momentum(), tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "checkpoint.part").exists()
    found = read_snapshot(tmp_path / CHECKPOINT_FILE)
    assert found is not None and found.round_ == 2


def test_a_history_that_was_cut_while_the_run_is_at_work_is_refused(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    mark = _three(path)
    os.truncate(path, mark.size - 1)
    with pytest.raises(ConfigurationError, match="of which the checkpoint counts"):
        append_history(path, mark, [Entry(3, {})])
