"""How unlike the updates of the rounds were, as the filters saw them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.report.block import Block, thinned
from flwr_robustcomp.simulations.report.chart import Axis, Chart, Series, axis_of
from flwr_robustcomp.simulations.report.section import Run, Section
from flwr_robustcomp.simulations.report.tables import MISSING, Table

__all__ = ["unlikeness"]

_Read = Callable[[RoundRecord], float | None]


def unlikeness(section: Section) -> list[Block]:
    """Return one block for each defence whose rounds have a spread: a panel for each setting, a line for each compressor."""
    blocks, looks = [], {name: look for look, name in enumerate(section.compressors)}
    for strategy in section.strategies:
        charts, rows = [], []
        for setting in section.settings:
            series = []
            for compressor in section.compressors_of(strategy):
                own = section.of(strategy=strategy, compressor=compressor, byzantine=setting[0], attack=setting[1])
                own = [run for run in own if any(record.get("spread") for record in run.records)]
                if own:
                    series.append(_line(compressor, looks[compressor], own))
                    rows.append([section.name_of(setting), compressor, *_numbers(own), _warned(own)])
            if series:
                title, rounds = section.name_of(setting), Axis("round", 0, max(series[0].x))
                y = axis_of("λ₁ / λ₍ₜ₊₂₎", (v for one in series for v in [*one.mid, *one.low, *one.high]), log=True)
                charts.append(Chart(f"spread-{strategy}-{title}", title, series, rounds, y))
        if charts:
            caption = f"{section.title}: how unlike the updates are under {strategy}, mean over the second half of the rounds"
            header = ["attack", "compressor", "ratio, directions", "ratio", "cosines: 5\u202f%", "50\u202f%", "95\u202f%"]
            table = Table(f"spread-{strategy}", caption, [*header, "warnings"], rows, labels=2)
            blocks.append(Block(strategy, charts, table))
    return blocks


def _ratio(record: RoundRecord) -> float | None:
    return (record.get("spread") or {}).get("direction_ratio")


def _plain(record: RoundRecord) -> float | None:
    return (record.get("spread") or {}).get("ratio")


def _cosine(at: int) -> _Read:
    return lambda record: ((record.get("spread") or {}).get("cosines") or [None] * 3)[at]


def _line(label: str, look: int, runs: Sequence[Run]) -> Series:
    columns = list(zip(*([_ratio(record) for record in run.records[1:]] for run in runs), strict=False))
    known = [[float(value) for value in column if value is not None] for column in columns]
    at = thinned(len(known))
    mid = [statistics.fmean(known[i]) if known[i] else math.nan for i in at]
    low, high = ([edge(known[i]) if known[i] else math.nan for i in at] for edge in (min, max))
    return Series(label, look, [float(i + 1) for i in at], mid, low, high)


def _numbers(runs: Sequence[Run]) -> list[str]:
    late = [record for run in runs for record in run.records[1:][(len(run.records) - 1) // 2 :]]
    read: list[_Read] = [_ratio, _plain, *map(_cosine, range(3))]
    return [_mean(one(record) for record in late) for one in read]


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.2g}" if known else MISSING


def _warned(runs: Sequence[Run]) -> str:
    """Return in how many runs the filters were found to trim honest minorities."""
    count = sum(any(record.get("minority_warning") for record in run.records) for run in runs)
    return f"{count} of {len(runs)}" if count else MISSING
