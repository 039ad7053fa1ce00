"""How unlike the updates were, drawn as recorded; runs of older versions have nothing to draw."""

from __future__ import annotations

from typing import Any

import pytest

from flwr_robustcomp.simulations.records.record_lines import RoundLine
from flwr_robustcomp.simulations.report.unlikeness import unlikeness
from tests.simulations.report.test_filtering import _run, _section


def _spread(ratio: float | None) -> dict[str, Any]:
    return {"spread": {"ratio": 2.0, "direction_ratio": ratio, "cosines": [-0.1, 0.2, 0.5]}}


def test_ratios_are_drawn_and_the_table_has_the_second_half() -> None:
    rounds = [_spread(value) for value in (1.5, 2.5, 3.0, 4.0)]
    rounds[3]["minority_warning"] = "they seem to trim honest minorities"
    (block,) = unlikeness(_section(_run(rounds)))
    assert block.charts[0].series[0].mid == [1.5, 2.5, 3.0, 4.0]
    assert block.table.rows == [["gaussian-noise", "l1-sign", "3.5", "2", "-0.1", "0.2", "0.5", "1 of 1"]]


def test_rounds_without_a_ratio_leave_a_gap_and_old_records_nothing() -> None:
    (block,) = unlikeness(_section(_run([_spread(None), {}, _spread(3.0), {"spread": None}])))
    assert block.charts[0].series[0].mid[2] == 3.0
    assert unlikeness(_section(_run([{"trimmed": [1]}] * 4))) == []
    (empty,) = unlikeness(_section(_run([_spread(None)] * 4)))
    assert empty.table.rows[0][2] != "nan"


def test_a_line_of_the_record_is_held_to_its_form() -> None:
    line = {"cell": "a", "round": 1}
    RoundLine.check({**line, **_spread(None), "minority_warning": "x"})
    RoundLine.check({**line, "spread": {"ratio": None, "cosines": None}})
    for wrong in ({"ratio": "many"}, {"cosines": [1.0]}, [1.0], {"direction_ratio": True}):
        with pytest.raises(ValueError, match="spread"):
            RoundLine.check({**line, "spread": wrong})
