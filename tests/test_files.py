"""Writing stays in the folder, whatever lies in the place of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flwr_robustcomp.checkpoints.history import Entry, Mark, append_history
from flwr_robustcomp.checkpoints.lock import LOCK_FILE, locked
from flwr_robustcomp.checkpoints.snapshot import Snapshot, read_snapshot, write_snapshot
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.files import foreign_link, open_own, open_regular, replace_file, replacing
from flwr_robustcomp.simulations.records.record import Recorder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


@pytest.mark.parametrize("name", ["a.html", "a.part"])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, victim: Path, name: str) -> None:
    (tmp_path / name).symlink_to(victim)
    replace_file(tmp_path / "a.html", b"new")
    assert victim.read_text() == "mine"
    assert (tmp_path / "a.html").read_bytes() == b"new"
    assert not (tmp_path / "a.html").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "victim"}


def test_a_failed_write_leaves_the_old_file(victim: Path) -> None:
    with pytest.raises(KeyError), replacing(victim) as file:
        file.write(b"half")
        raise KeyError
    assert victim.read_text() == "mine"
    assert not victim.with_suffix(".part").exists()


@pytest.mark.parametrize("append", [True, False])
def test_what_is_no_file_is_not_opened(tmp_path: Path, victim: Path, append: bool) -> None:
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("link", "a link"), ("dangling", "a link"), ("pipe", "a pipe or a device")):
        with pytest.raises(OSError, match=f"{name} must be a file of its own, got {what}"):
            open_own(tmp_path / name, append=append)
    with pytest.raises(OSError, match="pipe must be a file of its own"):
        open_regular(tmp_path / "pipe")
    assert not (tmp_path / "nowhere").exists()


def _lock(folder: Path) -> None:
    with locked(folder):
        pass


@pytest.mark.parametrize(
    ("name", "write"),
    [
        (LOCK_FILE, _lock),
        ("checkpoint.jsonl", lambda folder: append_history(folder / "checkpoint.jsonl", Mark(), [Entry(1, {})])),
        ("r.jsonl", lambda folder: Recorder(folder / "r.jsonl")),
    ],
)
def test_links_are_refused_in_one_line(tmp_path: Path, victim: Path, name: str, write: Callable[[Path], object]) -> None:
    (tmp_path / name).symlink_to(victim)
    with pytest.raises((ConfigurationError, OSError), match=f"{name} must be a file of its own, got a link"):
        write(tmp_path)
    assert victim.read_text() == "mine"


def test_a_snapshot_follows_no_link_and_waits_for_no_pipe(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "checkpoint.part").symlink_to(victim)
    os.mkfifo(path := tmp_path / "checkpoint.npz")
    with pytest.raises(ConfigurationError, match=r"checkpoint\.npz must be a file of its own"):
        read_snapshot(path)
    write_snapshot(path, Snapshot(0, "run", "strategy", {}, {}))
    assert victim.read_text() == "mine"
    assert read_snapshot(path) is not None


def test_only_links_inside_the_folder_are_foreign(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    (tmp_path / "mine").symlink_to(folder)
    (folder / "figures").symlink_to(tmp_path)
    assert foreign_link(tmp_path / "mine" / "figures" / "x", tmp_path / "mine") == tmp_path / "mine" / "figures"
    assert foreign_link(tmp_path / "mine" / "csv", folder) is None
