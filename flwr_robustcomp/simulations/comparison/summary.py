"""What a comparison found: one row for each combination, and one sentence for the whole."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.simulations.records.curves import Curves
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions, make_problem
from flwr_robustcomp.simulations.scenario.suite import Group, SuiteCell

__all__ = ["Row", "curves_of", "format_metric", "headline", "summarize"]


@dataclass(frozen=True)
class Row:
    """All seeds of one combination.

    Attributes
    ----------
    group : Group
        The combination.
    metric : str
        The problem's metric.
    final : float
        Its mean after the last round; infinite if a run diverged.
    spread : float
        Largest minus smallest over the seeds.
    found : float or None
        Share of the Byzantine nodes among the trimmed, mean over the second half of the rounds; None where nothing is
        trimmed or nobody is Byzantine.
    bytes_per_update : float
        Array data of one client's reply.
    """

    group: Group
    metric: str
    final: float
    spread: float
    found: float | None
    bytes_per_update: float


def curves_of(cells: Sequence[SuiteCell], curves: Curves) -> dict[Group, list[list[float]]]:
    """Return the metric by round, 0 to T, of every seed of every combination; a diverged round is infinite or zero."""
    result: dict[Group, list[list[float]]] = {}
    for cell in cells:
        metric = make_problem(cell.scenario).metric
        values = [_value(record.get(metric)) for record in curves[cell.scenario.key]]
        result.setdefault(cell.group, []).append(values)
    return result


def summarize(cells: Sequence[SuiteCell], curves: Curves) -> list[Row]:
    """Return one row for each combination, in the order of the cells."""
    rows = []
    for group, runs in curves_of(cells, curves).items():
        members = [cell for cell in cells if cell.group == group]
        finals = [run[-1] for run in runs]
        replies = [(cell, record) for cell in members for record in curves[cell.scenario.key][1:]]
        found = [share for cell, record in replies if (share := _found(cell, record)) is not None]
        sizes = [r.get("bytes", 0) / cell.scenario.asked for cell, r in replies]
        rows.append(
            Row(
                group,
                make_problem(members[0].scenario).metric,
                statistics.fmean(finals),
                max(finals) - min(finals) if all(map(math.isfinite, finals)) else math.inf,
                statistics.fmean(found) if found else None,
                statistics.fmean(sizes),
            )
        )
    return rows


def headline(title: str, nodes: int, rows: Sequence[Row]) -> str:
    """Return one sentence on the hardest setting: where the first strategy of the suite ends, and where the others do."""
    hardest = max(row.group.byzantine for row in rows)
    subject = next(row for row in rows if row.group.byzantine == hardest)
    others = [r for r in rows if r is not subject and _setting(r) == _setting(subject)]
    clean = next((r for r in rows if r.group.byzantine == 0 and _subject(r) == _subject(subject)), None)
    several = len({row.group.compressor for row in rows if row.group.strategy == subject.group.strategy}) > 1
    attack = f" ({subject.group.attack})" if hardest else ""
    text = f"{title}, {hardest} of {nodes} nodes Byzantine{attack}: {_name(subject, several)} ends at "
    text += f"{subject.metric} {_final(subject)}"
    if clean is not None and hardest:
        text += f" ({_final(clean)} when all are honest)"
    if subject.found is not None:
        text += f" and trims {subject.found:.0%} of the Byzantine nodes"
    if others:
        text += "; " + ", ".join(f"{_name(row, several)} {_final(row)}" for row in others)
    return text + "."


def format_metric(metric: str, value: float) -> str:
    """Return a value as tables show it: accuracies in percent, errors in scientific notation."""
    if not math.isfinite(value):
        return "diverged"
    return f"{value:.1%}" if metric == "accuracy" else f"{value:.2e}"


def _setting(row: Row) -> tuple[int, str]:
    return row.group.byzantine, row.group.attack


def _subject(row: Row) -> tuple[str, str]:
    return row.group.strategy, row.group.compressor


def _name(row: Row, with_compressor: bool) -> str:
    return f"{row.group.strategy} with {row.group.compressor}" if with_compressor else row.group.strategy


def _final(row: Row) -> str:
    return format_metric(row.metric, row.final)


def _value(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _found(cell: SuiteCell, record: RoundRecord) -> float | None:
    """Return the share of the Byzantine nodes that one round trimmed, for rounds of the second half; None of a sample."""
    scenario = cell.scenario
    if scenario.byzantine == 0 or scenario.sampled or not record.get("trimmed") or 2 * record["round"] <= scenario.rounds:
        return None
    return len(byzantine_partitions(scenario) & set(record["trimmed"])) / scenario.byzantine
