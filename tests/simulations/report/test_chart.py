from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.simulations.report.block import thinned
from flwr_robustcomp.simulations.report.chart import Axis, Chart, Series, axis_of
from flwr_robustcomp.simulations.report.svg import render

AXIS = Axis("round", 0.0, 10.0)


def _parse(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(render(chart, "i1"))


def _paths(root: ElementTree.Element, kind: str) -> list[list[tuple[float, float]]]:
    found = [path.attrib["d"] for path in root.iter("path") if path.attrib["class"] == kind]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", d)] for d in found]


def test_a_line_lies_where_its_values_say() -> None:
    series = Series("ours", 1, [0, 5, 10], [0.0, 0.5, 1.0], [0.0, 0.25, 1.0], [0.0, 0.75, 1.0])
    root = _parse(Chart("n", "a < b", [series], AXIS, Axis("accuracy", 0, 1, percent=True)))
    assert root.findtext("title") == "a < b"
    assert root.findtext("desc") == "accuracy against round. ours ends at 100 %."
    ((left, middle, right),) = _paths(root, "mid")
    assert (left[0] + right[0]) / 2 == pytest.approx(middle[0], abs=0.1)
    assert (left[1] + right[1]) / 2 == pytest.approx(middle[1], abs=0.1)
    assert left[1] > right[1]  # larger values stand higher
    (band,) = _paths(root, "band")
    assert len(band) == 6
    ticks = [text.text for text in root.iter("text") if text.attrib["class"] == "tick"]
    assert "100\u202f%" in ticks


def test_a_gap_breaks_line_and_band() -> None:
    values = [1.0, math.nan, 3.0, 4.0, math.inf]
    root = _parse(Chart("n", "t", [Series("s", 0, range(5), values, values, values)], AXIS, Axis("error", 0, 5)))
    assert [len(set(path)) for path in _paths(root, "mid")] == [1, 2]
    assert len(_paths(root, "band")) == 2
    assert "s ends at 4" in str(root.findtext("desc"))
    assert all(math.isfinite(number) for path in _paths(root, "mid") for place in path for number in place)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8), st.booleans())
def test_every_axis_can_be_drawn(values: list[float], log: bool) -> None:
    axis = axis_of("y", values, log=log)
    assert math.isfinite(axis.low)
    assert axis.low < axis.high or not math.isfinite(axis.high - axis.low)
    for value in values:
        if math.isfinite(value):
            assert 0 <= axis.place(value) <= 1


@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e6), st.booleans())
def test_ticks_lie_on_the_axis_and_are_few(low: float, factor: float, log: bool) -> None:
    ticks = Axis("y", low, low * factor, log).ticks()
    assert 1 <= len(ticks) <= 11
    assert all(low * (1 - 1e-6) <= value <= low * factor * (1 + 1e-6) for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks) or factor < 1.01


@given(st.integers(1, 5000))
def test_thinning_keeps_both_ends(count: int) -> None:
    at = thinned(count)
    assert at[0] == 0
    assert at[-1] == count - 1
    assert len(at) <= 80
    assert at == sorted(set(at))
