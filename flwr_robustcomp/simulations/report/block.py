"""A block of the page: panels that share a legend, and the table that says the same in text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.simulations.report.chart import Chart
from flwr_robustcomp.simulations.report.tables import Table

__all__ = ["Block", "thinned"]

_POINTS = 80
"""Points of a line: more would not show on a panel, and would make the page heavy."""


@dataclass(frozen=True)
class Block:
    """Panels and their table.

    Attributes
    ----------
    title : str
        Names the block among its neighbours.
    charts : sequence of Chart
        Drawn side by side.
    table : Table
        Their text alternative.
    """

    title: str
    charts: Sequence[Chart]
    table: Table

    @property
    def legend(self) -> list[tuple[str, int]]:
        """The labels of all lines with their looks, in the order of the looks."""
        return sorted({(series.label, series.look) for chart in self.charts for series in chart.series}, key=lambda one: one[1])


def thinned(count: int) -> list[int]:
    """Return the positions to draw of a line of ``count`` points, evenly spaced, both ends included."""
    if count <= _POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (_POINTS - 1)) for i in range(_POINTS)})
