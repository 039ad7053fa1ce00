"""The data file of docs/accuracy.md: one line per run, taken from the record of `run_cells`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.accuracy_cells import Case, scenario_of
from flwr_robustcomp.simulations.records.curves import Curves
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.strategies import Policy

__all__ = ["Curve", "curves_of", "merged", "read_curves_file", "written"]


@dataclass(frozen=True)
class Curve:
    """What the page needs of a run.

    Attributes
    ----------
    setting, recipe : str
        Names of `accuracy_cells`.
    error_feedback : bool
        Of the recipe.
    seed : int
        Of the run.
    sent : float
        Bytes that a client sends per round, as the server counted them: the mean over rounds that moved the model, and replies.
    accuracy : tuple of float
        On the test images, after rounds 0 to T; 0 where a run diverged.
    """

    setting: str
    recipe: str
    error_feedback: bool
    seed: int
    sent: float
    accuracy: tuple[float, ...]

    @property
    def rounds(self) -> int:
        """T."""
        return len(self.accuracy) - 1


def curves_of(cases: Iterable[Case], found: Curves) -> list[Curve]:
    """Return the curves of the runs that have ended, in the order of ``cases``.

    An attack can drive a model so far that no client can train on it any more. The strategy then gives up (`Policy.patience`),
    and the run ends early. Its model stays what it was, and so does its accuracy in the rounds that are left.

    Parameters
    ----------
    cases : iterable of Case
        The runs.
    found : Curves
        The record of a folder (`sweep.read_curves`).
    """
    curves = []
    for case in cases:
        records = found.get(scenario_of(case).key, ())
        if len(records) == case.rounds + 1 or _gave_up(records):
            reached = [float(record["accuracy"] or 0.0) for record in records]
            accuracy = (*reached, *reached[-1:] * (case.rounds + 1 - len(reached)))
            recipe, sent = case.recipe, statistics.fmean(_sent(record) for record in records[1:] if record["skipped"] is None)
            curves.append(Curve(case.setting.name, recipe.name, recipe.error_feedback, case.seed, sent, accuracy))
    return curves


def _gave_up(records: Sequence[RoundRecord]) -> bool:
    """Whether a run ended because no round had a quorum any more."""
    patience = Policy().patience
    last = records[1:][-patience:] if patience else ()
    return bool(last) and len(last) == patience and all(record["skipped"] is not None for record in last)


def _sent(record: RoundRecord) -> float:
    """Return the bytes per reply of a round."""
    replies = int(record["kept"]) + len(record["trimmed"]) + len(record["rejected"])
    return float(record["bytes"]) / replies


def merged(kept: Sequence[Curve], made: Sequence[Curve]) -> list[Curve]:
    """Return old curves with those in their places that were made anew, then the ones that are new."""

    def run(curve: Curve) -> tuple[str, str, bool, int]:
        return curve.setting, curve.recipe, curve.error_feedback, curve.seed

    table = {run(curve): curve for curve in kept} | {run(curve): curve for curve in made}
    return list(table.values())


def written(curves: Sequence[Curve]) -> str:
    """Return the text of the data file: JSON, one run a line, with as many digits as the page can show."""
    lines = []
    for curve in curves:
        fields = {**asdict(curve), "sent": round(curve.sent, 1), "accuracy": [round(one, 4) for one in curve.accuracy]}
        lines.append(json.dumps(fields) + "\n")
    return "".join(lines)


def read_curves_file(path: Path) -> list[Curve]:
    """Return the curves of a data file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Curve(**{**fields, "accuracy": tuple(fields["accuracy"])}) for fields in map(json.loads, lines)]
