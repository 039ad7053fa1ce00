"""Charts as inline SVG: colours are the page's own variables, so that light and dark, screen and paper look alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from flwr_robustcomp.simulations.report.chart import Chart, Series

__all__ = ["LOOKS", "render"]

LOOKS = 8
"""Colours that the style sheet has, ``--s0`` on; a ninth line takes the first with other dashes."""

_WIDTH, _HEIGHT = 340, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 38
_MARKS = 12
"""Points of a line that tell their value to a pointer."""


def render(chart: Chart, identifier: str) -> str:
    """Return a chart as an SVG element with an accessible name and description.

    Parameters
    ----------
    chart : Chart
        What to draw.
    identifier : str
        Unique on the page.
    """
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{identifier}-t {identifier}-d">',
        f'<title id="{identifier}-t">{escape(chart.title)}</title>',
        f'<desc id="{identifier}-d">{escape(chart.description)}</desc>',
        *_axes(chart),
    ]
    for series in chart.series:
        parts.append(f'<g class="line s{series.look % LOOKS} d{series.look // LOOKS % 3} k{series.look}">')
        if series.low:
            parts += [f'<path class="band" d="{path}"/>' for path in _bands(chart, series)]
        parts += [f'<path class="mid" d="{_path(run)}"/>' for run in _runs(chart, series)]
        parts += _marks(chart, series)
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def _at(chart: Chart, x: float, y: float) -> tuple[float, float]:
    right = _LEFT + chart.x.place(x) * (_WIDTH - _LEFT - _RIGHT)
    return right, _HEIGHT - _BOTTOM - chart.y.place(y) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(chart: Chart) -> Iterator[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value, text in chart.y.ticks():
        _, y = _at(chart, chart.x.low, value)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
        yield f'<text class="tick" x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{escape(text)}</text>'
    for value, text in chart.x.ticks(4):
        x, _ = _at(chart, value, chart.y.low)
        yield f'<path class="axis" d="M{x:.1f} {bottom}v4"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{escape(text)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>'
    middle = (_LEFT + right) / 2
    yield f'<text class="name" x="{middle:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(chart.x.label)}</text>'


def _runs(chart: Chart, series: Series) -> list[list[tuple[float, float]]]:
    """Return the places of a line, in pieces between its gaps."""
    return _pieces(chart, series.x, series.mid)


def _pieces(chart: Chart, xs: Sequence[float], ys: Sequence[float]) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(y) and not (chart.x.log and x <= 0):
            pieces[-1].append(_at(chart, x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _bands(chart: Chart, series: Series) -> list[str]:
    """Return one outline for each piece of the band: along its upper edge and back along its lower one."""
    whole = [math.isfinite(low) and math.isfinite(high) for low, high in zip(series.low, series.high, strict=True)]
    low, high = ([v if ok else math.nan for v, ok in zip(edge, whole, strict=True)] for edge in (series.low, series.high))
    pairs = zip(_pieces(chart, series.x, high), _pieces(chart, series.x, low), strict=True)
    return [_path([*upper, *reversed(lower)]) + "Z" for upper, lower in pairs]


def _path(places: Sequence[tuple[float, float]]) -> str:
    """Return a path through places; a place alone is drawn as a dot by the round line cap."""
    if len(places) == 1:
        places = [*places, *places]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _marks(chart: Chart, series: Series) -> Iterator[str]:
    """Yield unseen points that tell line, place and value when a pointer rests on them."""
    step = max(1, math.ceil(len(series.x) / _MARKS))
    for x, y in list(zip(series.x, series.mid, strict=True))[::-1][::step]:
        if math.isfinite(y) and not (chart.x.log and x <= 0):
            right, down = _at(chart, x, y)
            value = f"{100 * y:.1f} %" if chart.y.percent else f"{y:.3g}"
            text = escape(f"{series.label}: {value} at {chart.x.label} {x:,.4g}")
            yield f'<circle cx="{right:.1f}" cy="{down:.1f}" r="6"><title>{text}</title></circle>'
