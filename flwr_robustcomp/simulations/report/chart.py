"""A chart as data, with its axes: what the page draws as SVG and an export draws with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Axis", "Chart", "Series", "axis_of"]


@dataclass(frozen=True)
class Series:
    """A line with a band.

    Attributes
    ----------
    label : str
        Its name in the legend.
    look : int
        Which colour and which dashes; equal labels of one block look alike.
    x : sequence of float
        Ascending.
    mid, low, high : sequence of float
        The line and the edges of its band, as long as ``x``; a value that is not finite leaves a gap.
    """

    label: str
    look: int
    x: Sequence[float]
    mid: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes
    ----------
    label : str
        What it measures, with its unit.
    low, high : float
        Its ends.
    log : bool
        Whether it is logarithmic; then low is positive.
    percent : bool
        Whether ticks are shown in percent.
    """

    label: str
    low: float
    high: float
    log: bool = False
    percent: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 at the low end to 1 at the high end; beyond it, at the end."""
        if self.log:
            if value <= self.low:
                return 0.0
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Return values and texts of at most about ``most`` marks: decades, or multiples of 1, 2 or 5 times a power of ten."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            step = max(1, math.ceil((last - first + 1) / most))
            if last > first:
                return [(10.0**k, _power(k)) for k in range(first, last + 1, step)]
        step_size = _nice((self.high - self.low) / most)
        count = math.floor(self.high / step_size + 1e-9)
        values = [k * step_size for k in range(math.ceil(self.low / step_size - 1e-9), count + 1)]
        return [(value, f"{100 * value:.0f}\u202f%" if self.percent else _plain(value)) for value in values]


@dataclass(frozen=True)
class Chart:
    """One panel.

    Attributes
    ----------
    name : str
        What its file is called.
    title : str
        Over it, and the accessible name's beginning.
    series : sequence of Series
        Its lines.
    x, y : Axis
        Its axes.
    """

    name: str
    title: str
    series: Sequence[Series]
    x: Axis
    y: Axis

    @property
    def description(self) -> str:
        """The chart in words, for those who do not see it: what is drawn, and where each line ends."""
        ends = []
        for one in self.series:
            last = next((value for value in reversed(one.mid) if math.isfinite(value)), math.nan)
            text = "no value" if math.isnan(last) else f"{100 * last:.0f} %" if self.y.percent else f"{last:.2g}"
            ends.append(f"{one.label} ends at {text}")
        return f"{self.y.label} against {self.x.label}. {'; '.join(ends)}."


def axis_of(label: str, values: Iterable[float], *, log: bool = False, percent: bool = False) -> Axis:
    """Return an axis that holds all finite values, or 0 to 1 where there are none.

    A logarithmic axis holds the positive ones, and at most twelve decades below the largest. Shares begin at 0 and end at 1.
    """
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if percent:
        return Axis(label, 0.0, 1.0, percent=True)
    if not finite:
        return Axis(label, 0.1 if log else 0.0, 1.0, log)
    low, high = min(finite), max(finite)
    if log:
        low = max(low, high * 1e-12)
        return Axis(label, low / 1.25, high * 1.25, True)
    if low == high:
        return Axis(label, min(0.0, low), high if high > 0 else 1.0)
    return Axis(label, 0.0 if 0 <= low < 0.5 * high else low, high)


def _nice(step: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that is not below a step."""
    scale = 10.0 ** math.floor(math.log10(step))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= step * (1 - 1e-9))


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(exponent: int) -> str:
    plain = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100", 3: "1,000"}
    return plain.get(exponent) or f"10{str(exponent).translate(_SUPERSCRIPT)}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
