"""The contraction that was measured, delta = 1 - ||Q(p) - p||^2 / ||p||^2, against what the theorems ask for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from flwr_robustcomp.simulations.report.block import Block, thinned
from flwr_robustcomp.simulations.report.chart import Axis, Chart, Series
from flwr_robustcomp.simulations.report.filtering import filtered
from flwr_robustcomp.simulations.report.section import Run, Section
from flwr_robustcomp.simulations.report.tables import MISSING, Table
from flwr_robustcomp.theory import needed_delta

__all__ = ["contraction"]


def contraction(section: Section) -> list[Block]:
    """Return one block for each defence whose rounds recorded a delta: a panel for each setting, a line for each compressor.

    Theorem 2 is asked for the shares of Byzantine nodes and of nodes left out in the last round, in its sharp form.
    """
    blocks, looks = [], {name: look for look, name in enumerate(section.compressors)}
    for strategy in section.strategies:
        charts, rows = [], []
        for setting in section.settings:
            series = []
            asked = math.nan
            for compressor in section.compressors_of(strategy):
                own = section.of(strategy=strategy, compressor=compressor, byzantine=setting[0], attack=setting[1])
                own = [run for run in own if any(record.get("delta") is not None for record in run.records)]
                if not own:
                    continue
                asked = _asked(own[0])
                line = _line(compressor, looks[compressor], own)
                series.append(line)
                late = [v for v in line.mid[len(line.mid) // 2 :] if math.isfinite(v)]
                measured = statistics.fmean(late) if late else math.nan
                rows.append([section.name_of(setting), compressor, *map(_text, (measured, own[0].guaranteed, asked))])
            if series:
                rounds = Axis("round", 0, max(series[0].x))
                if math.isfinite(asked):
                    series.append(Series("Theorem 2 asks", len(section.compressors), series[0].x, [asked] * len(series[0].x)))
                title = section.name_of(setting)
                charts.append(Chart(f"delta-{strategy}-{title}", title, series, rounds, Axis("δ", 0, 1)))
        if charts:
            caption = f"{section.title}: δ of the kept updates with {strategy}, mean over the second half of the rounds"
            header = ["attack", "compressor", "measured", "guaranteed", "Theorem 2 asks"]
            blocks.append(Block(strategy, charts, Table(f"delta-{strategy}", caption, header, rows, labels=2)))
    return blocks


def _line(label: str, look: int, runs: Sequence[Run]) -> Series:
    columns = list(zip(*([record.get("delta") for record in run.records[1:]] for run in runs), strict=False))
    known = [[float(value) for value in column if value is not None] for column in columns]
    at = thinned(len(known))
    mid = [statistics.fmean(known[i]) if known[i] else math.nan for i in at]
    low, high = ([edge(known[i]) if known[i] else math.nan for i in at] for edge in (min, max))
    return Series(label, look, [float(i + 1) for i in at], mid, low, high)


def _asked(run: Run) -> float:
    """Return the delta that Theorem 2 needs, infinite where no delta will do, NaN where the theorem does not speak."""
    scenario = run.cell.scenario
    alpha, beta = scenario.byzantine / scenario.nodes, len(filtered(run.records[-1])) / scenario.asked
    if not alpha <= beta < 0.5:  # the theorems trim at least the Byzantine share
        return math.nan
    needed = float(needed_delta(alpha, beta, theorem=2))
    return needed if needed < 1 else math.inf


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return MISSING
    return "more than any" if math.isinf(value) else f"{value:.2g}"
