"""What the runs cost in time and memory, where that was noted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from flwr_robustcomp.simulations.report.section import Run, Section
from flwr_robustcomp.simulations.report.tables import MISSING, Table

__all__ = ["expense"]


def expense(section: Section) -> Table | None:
    """Return time and memory of each defence with each compressor, over all attacks and seeds; None where nothing was noted."""
    rows = []
    for compressor in section.compressors:
        for strategy in section.strategies_of(compressor):
            runs = [run for run in section.of(strategy=strategy, compressor=compressor) if run.cost]
            if not runs:
                continue
            laps, totals, peaks = (_known(runs, key) for key in ("seconds_per_round", "seconds", "peak_memory"))
            rows.append(
                [
                    strategy,
                    compressor,
                    str(len(runs)),
                    f"{1e3 * statistics.median(laps):.2g}" if laps else MISSING,
                    f"{statistics.fmean(totals):.2g}" if totals else MISSING,
                    f"{max(peaks) / 2**20:,.0f}" if peaks else MISSING,
                ]
            )
    if not rows:
        return None
    caption = f"{section.title}: time and memory on the machine that ran it; {_together(section.runs)}"
    header = ["defence", "compressor", "runs", "median ms a round", "mean seconds a run", "peak MiB of the process"]
    return Table("cost", caption, header, rows, labels=2)


def _together(runs: Sequence[Run]) -> str:
    """Return what all runs took, one after the other."""
    seconds = _known(runs, "seconds")
    total = sum(seconds)
    took = f"{total / 60:,.1f} minutes" if total >= 60 else f"{total:.2g} s"
    return f"{len(seconds)} run{'s' * (len(seconds) != 1)} took {took}, one after the other"


def _known(runs: Sequence[Run], key: str) -> list[float]:
    return [float(run.cost[key]) for run in runs if run.cost.get(key) is not None]
