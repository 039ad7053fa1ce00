"""The metric against rounds, with one block for each compressor, and against traffic, with one for each defence."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from flwr_robustcomp.simulations.records.traffic import megabytes, volume
from flwr_robustcomp.simulations.report.block import Block, thinned
from flwr_robustcomp.simulations.report.chart import Chart, Series, axis_of
from flwr_robustcomp.simulations.report.estimate import Estimate
from flwr_robustcomp.simulations.report.section import Run, Section, Setting
from flwr_robustcomp.simulations.report.tables import MISSING, Table

__all__ = ["against_bytes", "against_rounds", "lone_compressors"]

_CHECKPOINTS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the rounds whose values stand in the tables."""

_AXIS = {True: "megabytes, both ways", False: "megabytes sent by all nodes; the way down is not recorded"}
"""The axis of traffic, by whether a record says what was sent to the nodes."""


def lone_compressors(section: Section) -> set[str]:
    """Return the compressors that one defence alone brings along, where the others share some: it joins their panels."""
    users = {compressor: section.strategies_of(compressor) for compressor in section.compressors}
    lone = {compressor for compressor, of in users.items() if len(of) == 1}
    return lone if lone != set(users) else set()


def against_rounds(section: Section) -> list[Block]:
    """Return one block for each compressor, with a panel for each setting and a line for each defence."""
    lone = lone_compressors(section)
    joining = [run for run in section.runs if run.cell.group.compressor in lone]
    looks = {name: look for look, name in enumerate(section.strategies)}
    blocks = []
    for compressor in [name for name in section.compressors if name not in lone]:
        runs = section.of(compressor=compressor) + joining
        if not runs:
            continue
        lines: dict[Setting, list[Series]] = {}
        for setting, strategy, own in _lines(section, runs):
            label = strategy if own[0].cell.group.compressor == compressor else f"{strategy} ({own[0].cell.group.compressor})"
            rounds = [float(record["round"]) for record in own[0].records]
            lines.setdefault(setting, []).append(_series(section, label, looks[strategy], rounds, own))
        charts = _panels(section, lines, "round", log_x=False, name=f"rounds-{compressor}")
        blocks.append(Block(compressor, charts, _checkpoints(section, compressor, runs)))
    return blocks


def against_bytes(section: Section) -> list[Block]:
    """Return one block for each defence that ran with several compressors; where none did, one with a line for each defence."""
    crossed = [name for name in section.strategies if len({run.cell.group.compressor for run in section.of(strategy=name)}) > 1]
    blocks = []
    compressor_looks = {name: look for look, name in enumerate(section.compressors)}
    strategy_looks = {name: look for look, name in enumerate(section.strategies)}
    wanted: list[str | None] = [*crossed] if crossed else [None]
    both = _tells_both(section.runs, some=True)
    for strategy in wanted:
        lines: dict[Setting, list[Series]] = {}
        for compressor in section.compressors if strategy is None else section.compressors_of(strategy):
            for setting, name, own in _lines(section, _with(section, strategy, compressor)):
                label, looks = (compressor, compressor_looks) if strategy else (name, strategy_looks)
                marked = label if _tells_both(own) or not both else f"{label} (up only)"
                lines.setdefault(setting, []).append(_series(section, marked, looks[label], _megabytes(own), own))
        if lines:
            charts = _panels(section, lines, _AXIS[both], log_x=True, name=f"bytes-{strategy or 'all'}")
            blocks.append(Block(strategy or "all defences", charts, _traffic(section, strategy)))
    return blocks


def _lines(section: Section, runs: Sequence[Run]) -> Iterator[tuple[Setting, str, list[Run]]]:
    """Yield the seeds of each line, setting by setting, in the order of the suite."""
    lines: dict[tuple[Setting, str], list[Run]] = {}
    for run in runs:
        group = run.cell.group
        lines.setdefault(((group.byzantine, group.attack), group.strategy), []).append(run)
    for (setting, strategy), own in sorted(lines.items(), key=lambda line: section.place(*line[0])):
        yield setting, strategy, own


def _with(section: Section, strategy: str | None, compressor: str) -> list[Run]:
    return section.of(compressor=compressor) if strategy is None else section.of(strategy=strategy, compressor=compressor)


def _series(section: Section, label: str, look: int, x: Sequence[float], runs: Sequence[Run]) -> Series:
    """Return the mean over the seeds, and the band from the smallest to the largest."""
    columns = list(zip(*([section.value(record) for record in run.records] for run in runs), strict=False))
    at = thinned(len(columns))
    mid = [statistics.fmean(columns[i]) for i in at]
    band = len(runs) > 1
    edges = [([min(columns[i]) for i in at], [max(columns[i]) for i in at])] if band else [([], [])]
    return Series(label, look, [x[i] for i in at], mid, *edges[0])


def _tells_both(runs: Sequence[Run], *, some: bool = False) -> bool:
    """Whether all runs, or some of them, say what was sent to the nodes."""
    return (any if some else all)(volume(run.records).down is not None for run in runs)


def _megabytes(runs: Sequence[Run]) -> list[float]:
    """Return the MB up to each round, mean over the seeds."""
    return [statistics.fmean(column) for column in zip(*(megabytes(run.records) for run in runs), strict=False)]


def _panels(section: Section, lines: dict[Setting, list[Series]], x_label: str, *, log_x: bool, name: str) -> list[Chart]:
    """Return one panel for each setting; all have the same axes, so that they can be compared at a glance."""
    every = [series for members in lines.values() for series in members]
    percent = section.metric == "accuracy"
    y = axis_of(section.metric, (v for s in every for v in s.mid), log=not percent, percent=percent)
    xs = [value for series in every for value in series.x]
    x = axis_of(x_label, xs, log=log_x) if log_x else replace(axis_of(x_label, xs), low=0.0)
    return [
        Chart(f"{name}-{section.name_of(setting)}", section.name_of(setting), members, x, y)
        for setting, members in lines.items()
    ]


def _checkpoints(section: Section, compressor: str, runs: Sequence[Run]) -> Table:
    rounds = max(run.cell.scenario.rounds for run in runs)
    at = sorted({max(1, round(share * rounds)) for share in _CHECKPOINTS})
    rows = []
    for setting, strategy, own in _lines(section, runs):
        values = [
            Estimate(section.metric, tuple(section.value(run.records[min(t, len(run.records) - 1)]) for run in own)) for t in at
        ]
        rows.append([section.name_of(setting), strategy, *map(str, values)])
    caption = f"{section.title}: {section.metric} by round with {compressor}, mean ± half of the range over the seeds"
    return Table(f"rounds-{compressor}", caption, ["attack", "defence", *(f"round {t}" for t in at)], rows, labels=2)


def _traffic(section: Section, strategy: str | None) -> Table:
    rows = []
    for compressor in section.compressors if strategy is None else section.compressors_of(strategy):
        for setting, name, own in _lines(section, _with(section, strategy, compressor)):
            volumes = [volume(run.records) for run in own]
            up = statistics.fmean(one.up for one in volumes)
            downs = [one.down for one in volumes if one.down is not None]
            down = f"{statistics.fmean(downs) / 1e6:,.3g}" if len(downs) == len(volumes) else MISSING
            final = Estimate(section.metric, tuple(section.value(run.records[-1]) for run in own))
            update = up / (own[0].cell.scenario.asked * max(1, len(own[0].records) - 1))
            bits = MISSING if section.dimension is None else f"{8 * update / section.dimension:.3g}"
            rows.append(
                [section.name_of(setting), name, compressor, f"{update:,.0f}", bits, f"{up / 1e6:,.3g}", down, str(final)]
            )
    caption = f"{section.title}: bytes sent and where they led{'' if strategy is None else f', {strategy}'}"
    header = ["attack", "defence", "compressor", "bytes an update", "bits a coordinate", "MB up", "MB down"]
    header.append(f"final {section.metric}")
    return Table(f"bytes-{strategy or 'all'}", caption, header, rows, labels=3)
