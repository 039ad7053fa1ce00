"""What the tests of the simulations share: small scenarios, replies as comparable values, processes by their ancestry."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from flwr_robustcomp import to_arrays
from flwr_robustcomp.simulations import LocalGrid, Scenario
from flwr_robustcomp.simulations.problems import Problem
from flwr_robustcomp.simulations.scenario.setup import make_problem

ROOT = Path(__file__).parents[2]

SMALL: dict[str, Any] = {
    "problem": {"name": "least-squares", "samples": 80, "dimension": 12},
    "nodes": 10,
    "byzantine": 2,
    "strategy": {"name": "norm-threshold", "trim": 3, "step_size": 0.4},
    "rounds": 3,
}

DIGITS: dict[str, Any] = {**SMALL, "problem": {"name": "digits", "hidden": 4}, "attack": {"name": "shifted-labels"}}


def small(**changes: Any) -> Scenario:
    return Scenario.parse({**SMALL, **changes})


def digits(**changes: Any) -> Scenario:
    return Scenario.parse({**DIGITS, **changes})


def normless(scenario: dict[str, Any], order: float = 2) -> dict[str, Any]:
    """Return Algorithm 1: the strategy that sorts by reported norms."""
    return {**scenario["strategy"], "norm": "reported", "norm_order": order}


def training_messages(scenario: Scenario, grid: LocalGrid, round_: int = 1) -> list[Message]:
    """Return what a strategy sends in a round: one content for all nodes. The model moves with the round."""
    problem: Problem = make_problem(scenario)
    rng = np.random.default_rng(round_)
    model = {
        name: tensor + 0.1 * torch.from_numpy(rng.standard_normal(tuple(tensor.shape))).to(tensor.dtype)
        for name, tensor in problem.initial().items()
    }
    content = RecordDict({"arrays": to_arrays(model), "config": ConfigRecord({"server-round": round_})})
    return [grid.create_message(content, "train", node_id, str(round_)) for node_id in grid.get_node_ids()]


def snapshot(replies: Iterable[Message]) -> list[Any]:
    """Return everything that a server could read of replies, in the order of their nodes, as plain comparable values."""
    found: list[Any] = []
    for reply in sorted(replies, key=lambda r: (r.metadata.src_node_id, r.metadata.reply_to_message_id)):
        meta = reply.metadata
        head = (meta.src_node_id, meta.dst_node_id, meta.message_type, meta.group_id)
        if reply.has_error():
            found.append((*head, "error", reply.error.code, reply.error.reason))
        else:
            found.append((*head, [(key, type(r).__name__, record_values(r)) for key, r in reply.content.items()]))
    return found


def record_values(record: Any) -> Any:
    """Return a record as plain comparable values."""
    if isinstance(record, ArrayRecord):
        return [(name, a.dtype, tuple(a.shape), a.stype, bytes(a.data)) for name, a in record.items()]
    return list(record.items())


def descendants(pid: int | None = None) -> set[int]:
    """Return the living processes (zombies are not) that descend from a process, by default this one."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
            if state not in "ZX":
                parents[int(entry)] = int(parent)
    found = {pid or os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid or os.getpid()}


def marked(folder: Path | str) -> set[int]:
    """Return the living processes that were started with a folder in their environment or command line.

    Servers that went into the background are nobody's descendants any more; this finds them all the same.
    """
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in text:
                found.add(int(entry.name))
    return found


def alive(pids: Iterable[int]) -> set[int]:
    """Return those of the processes that are neither gone nor zombies."""
    return {pid for pid in pids if _state(pid) not in "ZX"}


def _state(pid: int) -> str:
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X"
    return stat[stat.rindex(")") + 2]


def gone(pids: Iterable[int], patience: float = 20.0) -> set[int]:
    """Wait for processes to end; return those that did not."""
    deadline = time.monotonic() + patience
    left = alive(pids)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = alive(left)
    return left


def until(condition: Any, patience: float = 60.0) -> bool:
    """Wait until a condition holds; return whether it came to hold."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def nothing_left_running(folder: Path | str | None = None) -> Iterator[None]:
    """Fail if the block leaves a process behind: a descendant, or one that names the folder, by default Ray's."""
    folder = folder or os.environ["RAY_TMPDIR"]
    before = descendants()
    yield
    assert not gone(descendants() - before | marked(folder)), "processes left running"
