"""The data file of docs/traffic.md: one line per finished run, taken from the record of `run_cells`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.traffic_attacks import AttackCase
from benchmarks.traffic_attacks import cases as attack_cases
from benchmarks.traffic_attacks import scenario_of as attacked
from benchmarks.traffic_cells import TABLES, Case, cases, scenario_of
from flwr_robustcomp.simulations.records.curves import Curves, read_curves
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = ["Attacked", "Data", "Outcome", "read_data", "scenarios", "updated"]


@dataclass(frozen=True)
class Outcome(Case):
    """One finished run without attack.

    Attributes
    ----------
    accuracy : tuple of float
        On the test images, after rounds 0 to T.
    up, down_bytes : tuple of int
        Bytes that all nodes together sent and were sent, in rounds 1 to T.
    """

    accuracy: tuple[float, ...]
    up: tuple[int, ...]
    down_bytes: tuple[int, ...]

    @classmethod
    def of(cls, case: Case, records: Sequence[RoundRecord]) -> Outcome:
        """Return the outcome of a complete record."""
        accuracy = tuple(round(float(record["accuracy"]), 4) for record in records)
        up, down = (tuple(int(record[name]) for record in records[1:]) for name in ("bytes", "bytes_sent"))
        return cls(**asdict(case), accuracy=accuracy, up=up, down_bytes=down)

    @property
    def total(self) -> tuple[int, ...]:
        """Bytes both ways from the start to the end of rounds 0 to T."""
        both = (up + down for up, down in zip(self.up, self.down_bytes, strict=True))
        return tuple(itertools.accumulate(both, initial=0))

    def bytes_to(self, target: float) -> int | None:
        """Return the bytes both ways until the accuracy is first reached; None where it never is."""
        return next((spent for spent, reached in zip(self.total, self.accuracy, strict=True) if reached >= target), None)


@dataclass(frozen=True)
class Attacked(AttackCase):
    """One finished run under attack.

    Attributes
    ----------
    accuracy : float
        On the test images, after the last round; 0 where the model was destroyed.
    """

    accuracy: float

    @classmethod
    def of(cls, case: AttackCase, records: Sequence[RoundRecord]) -> Attacked:
        """Return the outcome of a complete record."""
        return cls(**asdict(case), accuracy=round(float(records[-1]["accuracy"] or 0.0), 4))


@dataclass(frozen=True)
class Data:
    """What the data file holds."""

    outcomes: tuple[Outcome, ...] = ()
    attacked: tuple[Attacked, ...] = ()

    def text(self) -> str:
        """Return the data file: JSON, one run a line."""
        lines = [*map(asdict, self.outcomes), *map(asdict, self.attacked)]
        return "".join(json.dumps(line) + "\n" for line in lines)


def read_data(path: Path) -> Data:
    """Read a data file; one that is missing has no runs."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    plain = tuple(Outcome(**_tupled(one)) for one in found if "up" in one)
    return Data(plain, tuple(Attacked(**one) for one in found if "up" not in one))


def _tupled(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with tuples in the place of JSON's lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def scenarios(seeds: Sequence[int], tables: Sequence[str]) -> list[Scenario]:
    """Return all runs of some tables, in the order in which they are to be run."""
    plain = [scenario_of(case) for case in cases(seeds, tables)]
    return [*plain, *(attacked(case) for case in attack_cases(seeds, tables))]


def updated(known: Data, seeds: Sequence[int], tables: Sequence[str], folders: Iterable[Path]) -> Data:
    """Return known outcomes and those that folders hold; the newer of two equal runs counts.

    Parameters
    ----------
    known : Data
        Rows of other tables and seeds stay.
    seeds, tables
        What is looked for.
    folders : iterable of Path
        Of records.
    """
    curves: Curves = {key: records for folder in folders for key, records in read_curves(folder).items()}
    plain = {Case(one.table, one.partition, one.down, one.seed): one for one in known.outcomes}
    for case in cases(seeds, tables):
        if records := _complete(curves, scenario_of(case)):
            plain[case] = Outcome.of(case, records)
    liars = {AttackCase(one.partition, one.attack, one.down, one.seed): one for one in known.attacked}
    for lie in attack_cases(seeds, tables):
        if records := _complete(curves, attacked(lie)):
            liars[lie] = Attacked.of(lie, records)
    every = sorted({case.seed for case in plain} | {lie.seed for lie in liars})
    return Data(
        tuple(plain[case] for case in cases(every, tuple(TABLES)) if case in plain),
        tuple(liars[lie] for lie in attack_cases(every) if lie in liars),
    )


def _complete(curves: Mapping[str, Sequence[RoundRecord]], scenario: Scenario) -> Sequence[RoundRecord]:
    """Return the records of a run that has ended; nothing of any other."""
    records = curves.get(scenario.key, ())
    return records if len(records) == scenario.rounds + 1 else ()
