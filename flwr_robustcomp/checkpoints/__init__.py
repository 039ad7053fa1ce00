"""Stopping a server after any round and going on from there, to the same curve bit for bit."""

from __future__ import annotations

from flwr_robustcomp.checkpoints.checkpointed import Checkpointed
from flwr_robustcomp.checkpoints.history import HISTORY_FILE, Entry, Mark
from flwr_robustcomp.checkpoints.snapshot import CHECKPOINT_FILE, Snapshot, read_snapshot, write_snapshot

__all__ = [
    "CHECKPOINT_FILE",
    "HISTORY_FILE",
    "Checkpointed",
    "Entry",
    "Mark",
    "Snapshot",
    "read_snapshot",
    "write_snapshot",
]
