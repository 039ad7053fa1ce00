"""Who was trimmed: precision and recall of finding the Byzantine nodes, and the norms that decided it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.report.block import Block, thinned
from flwr_robustcomp.simulations.report.chart import Axis, Chart, Series, axis_of
from flwr_robustcomp.simulations.report.curves import lone_compressors
from flwr_robustcomp.simulations.report.section import Run, Section, Setting
from flwr_robustcomp.simulations.report.tables import MISSING, Table
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions

__all__ = ["detection", "filtered", "found", "norms"]


def filtered(record: RoundRecord) -> set[int]:
    """Return the partitions whose updates a round left out: trimmed by the filter or rejected by screening."""
    return {*record.get("trimmed", ()), *map(int, record.get("rejected", ()))}


def found(run: Run) -> list[tuple[float, float]]:
    """Return precision and recall of rounds 1 to T.

    Precision is the share of Byzantine nodes among those left out, NaN where nobody was; recall is the share of the Byzantine
    nodes that were left out, NaN for samples, of which the record does not say how many of them were asked.
    """
    liars = byzantine_partitions(run.cell.scenario)
    result = []
    for record in run.records[1:]:
        out = filtered(record)
        hits = len(out & liars)
        recall = hits / len(liars) if liars and not run.cell.scenario.sampled else math.nan
        result.append((hits / len(out) if out else math.nan, recall))
    return result


def detection(section: Section) -> list[Block]:
    """Return one block for each compressor whose runs trimmed: precision and recall by round, a panel for each attack."""
    lone = lone_compressors(section)
    blocks = []
    for compressor in section.compressors:
        trimming = [run for run in section.of(compressor=compressor) if _trims(run) and run.cell.scenario.byzantine]
        if not trimming or (compressor in lone and not trimming):
            continue
        strategies = list(dict.fromkeys(run.cell.group.strategy for run in trimming))
        by_line: dict[tuple[int, str, str], list[Run]] = {}
        for run in trimming:
            group = run.cell.group
            by_line.setdefault((group.byzantine, group.attack, group.strategy), []).append(run)
        charts, rows = [], []
        for setting in section.settings:
            series = []
            for index, strategy in enumerate(strategies):
                own = by_line.get((*setting, strategy))
                if not own:
                    continue
                pairs = [found(run) for run in own]
                prefix = f"{strategy}: " if len(strategies) > 1 else ""
                for offset, name in enumerate(("precision", "recall")):
                    columns = list(zip(*([pair[offset] for pair in run] for run in pairs), strict=False))
                    series.append(_shares(f"{prefix}{name}", 2 * index + offset, columns))
                halves = [_second_half(run) for run in pairs]
                rows.append([section.name_of(setting), strategy, *(_percent(half[i] for half in halves) for i in (0, 1))])
            if series:
                rounds = Axis("round", 0, max(len(run.records) - 1 for run in trimming))
                title = section.name_of(setting)
                charts.append(Chart(f"found-{compressor}-{title}", title, series, rounds, Axis("share", 0, 1, percent=True)))
        caption = f"{section.title}: Byzantine nodes found with {compressor}, mean over the second half of the rounds"
        table = Table(f"found-{compressor}", caption, ["attack", "defence", "precision", "recall"], rows, labels=2)
        blocks.append(Block(compressor, charts, table))
    return blocks


def norms(section: Section) -> list[Block]:
    """Return one block for each defence and compressor that trims: norms and threshold of its first seed, by round."""
    blocks = []
    for strategy in section.strategies:
        for compressor in section.compressors_of(strategy):
            own = [run for run in section.of(strategy=strategy, compressor=compressor) if _trims(run) and _has_norms(run)]
            by_setting: dict[Setting, list[Run]] = {}
            for run in own:
                by_setting.setdefault((run.cell.group.byzantine, run.cell.group.attack), []).append(run)
            charts, rows = [], []
            for setting in section.settings:
                runs = by_setting.get(setting)
                if not runs:
                    continue
                title = section.name_of(setting)
                series = _norm_series(runs[0])
                y = axis_of("norm of the update", (v for s in series for v in [*s.mid, *s.low, *s.high]), log=True)
                rounds = Axis("round", 0, max(1, len(runs[0].records) - 1))
                charts.append(Chart(f"norms-{strategy}-{compressor}-{title}", title, series, rounds, y))
                rows += _norm_rows(title, runs[0])
            if charts:
                header = [
                    "attack",
                    "round",
                    "honest: smallest",
                    "median",
                    "largest",
                    "Byzantine: smallest",
                    "median",
                    "largest",
                ]
                caption = (
                    f"{section.title}: norms of the updates, {strategy} with {compressor}, seed {own[0].cell.scenario.seed}"
                )
                table = Table(f"norms-{strategy}-{compressor}", caption, [*header, "threshold"], rows, labels=2)
                blocks.append(Block(f"{strategy}, {compressor}", charts, table))
    return blocks


def _trims(run: Run) -> bool:
    return any(record.get("trimmed") for record in run.records)


def _has_norms(run: Run) -> bool:
    return any(record.get("norms") for record in run.records)


def _shares(label: str, look: int, columns: Sequence[Sequence[float]]) -> Series:
    """Return the mean and the range over the seeds, of those in which the share is defined."""
    known = [[value for value in column if not math.isnan(value)] for column in columns]
    at = thinned(len(known))
    mid = [statistics.fmean(known[i]) if known[i] else math.nan for i in at]
    low, high = ([edge(known[i]) if known[i] else math.nan for i in at] for edge in (min, max))
    return Series(label, look, [float(i + 1) for i in at], mid, low, high)


def _second_half(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    late = pairs[len(pairs) // 2 :]
    return _mean(precision for precision, _ in late), _mean(recall for _, recall in late)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def _percent(values: Iterable[float]) -> str:
    mean = _mean(values)
    return MISSING if math.isnan(mean) else f"{100 * mean:.0f}\u202f%"


def _norm_series(run: Run) -> list[Series]:
    """Return honest and Byzantine norms, each as a median in the band from smallest to largest, and the threshold."""
    records = [run.records[1:][i] for i in thinned(len(run.records) - 1)]
    rounds = [float(record["round"]) for record in records]
    series = []
    for look, (key, label) in enumerate((("honest", "honest"), ("byzantine", "Byzantine"))):
        values = [record.get("norms", {}).get(key) or [math.nan] * 3 for record in records]
        low, mid, high = ([_number(value[i]) for value in values] for i in range(3))
        if any(map(math.isfinite, mid)):
            series.append(Series(label, look, rounds, mid, low, high))
    return [*series, Series("threshold", 2, rounds, [_number(record.get("threshold")) for record in records])]


def _norm_rows(title: str, run: Run) -> list[list[str]]:
    rounds = len(run.records) - 1
    rows = []
    for t in sorted({1, max(1, rounds // 2), rounds}):
        record = run.records[t]
        values = [v for key in ("honest", "byzantine") for v in record.get("norms", {}).get(key) or [None] * 3]
        rows.append([title, str(t), *(MISSING if v is None else f"{v:.3g}" for v in [*values, record.get("threshold")])])
    return rows


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
