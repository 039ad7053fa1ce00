"""What checkpoints of format 1 kept in one place with everything else: the histories of all rounds."""

from __future__ import annotations

import json
from typing import Any

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from flwr_robustcomp.checkpoints.fields import field, key_number, typed, whole
from flwr_robustcomp.checkpoints.history import HISTORIES, Entry

__all__ = ["take_rounds"]

_SCENARIO_RECORDS = "robustcomp.records"
"""Where `run_scenario` kept the records of its rounds, in the ServerApp's state."""


def take_rounds(records: dict[str, RecordDict]) -> tuple[Entry, ...]:
    """Take the rounds out of the records of a snapshot of format 1, as entries of a history.

    Raises
    ------
    ValueError
        If the records hold something else in their place.
    """
    metrics: dict[int, dict[str, MetricRecord]] = {}
    for name in HISTORIES:
        for key, record in records.pop(name, RecordDict()).items():
            if not isinstance(record, MetricRecord):
                raise ValueError(f"{name} must hold metrics, got a {type(record).__name__}")
            metrics.setdefault(key_number(key, f"a round of {name}"), {})[name] = record
    notes: dict[int, list[Any]] = {}
    kept = records.get("app", RecordDict()).pop(_SCENARIO_RECORDS, ConfigRecord({"rounds": []}))
    lines = field(dict(kept), "rounds", _SCENARIO_RECORDS)
    for line in typed(lines, list, f"the rounds of {_SCENARIO_RECORDS}"):
        note = typed(json.loads(line), dict, f"a round of {_SCENARIO_RECORDS}")
        notes.setdefault(whole(field(note, "round", _SCENARIO_RECORDS), "round"), []).append(note)
    return tuple(
        Entry(round_, metrics.get(round_, {}), tuple(notes.get(round_, ()))) for round_ in sorted(metrics.keys() | notes.keys())
    )
