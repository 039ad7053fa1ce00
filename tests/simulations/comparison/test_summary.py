from __future__ import annotations

import math
from typing import Any

import pytest

from flwr_robustcomp.simulations.comparison.summary import Row, curves_of, format_metric, headline, summarize
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions
from flwr_robustcomp.simulations.scenario.suite import Group, Suite, SuiteCell
from tests.simulations.kit import SMALL

NOISE = "gaussian-noise"


def _cells(**fields: Any) -> list[SuiteCell]:
    base = {key: SMALL[key] for key in ("problem", "nodes")} | {"rounds": 4}
    strategies = [{"name": "norm-threshold", "trim": 3, "label": "ours"}]
    return Suite.model_validate({"title": "T", "base": base, "strategies": strategies, "byzantine": [2], **fields}).cells()


def _records(errors: list[float | None], trimmed: list[list[int]]) -> list[RoundRecord]:
    """Return rounds 0 to 4."""
    rounds = zip(errors[1:], trimmed, strict=True)
    return [
        {"round": 0, "error": errors[0]},
        *({"round": t, "error": error, "trimmed": nodes, "bytes": 100} for t, (error, nodes) in enumerate(rounds, 1)),
    ]


def test_a_row_is_the_mean_over_the_seeds() -> None:
    cells = _cells(seeds=[0, 1])
    liars = [sorted(byzantine_partitions(cell.scenario)) for cell in cells]
    honest = [next(n for n in range(10) if n not in nodes) for nodes in liars]
    curves = {
        # Rounds 1 and 2 are the first half, and do not count.
        cells[0].scenario.key: _records([9, 8, 7, 6, 2.0], [[honest[0]]] * 2 + [[*liars[0], honest[0]]] * 2),
        cells[1].scenario.key: _records([9, 8, 7, 6, 4.0], [liars[1]] * 2 + [[liars[1][0], honest[1]], [honest[1]]]),
    }
    (row,) = summarize(cells, curves)
    assert (row.group, row.metric) == (Group(2, NOISE, "l1-sign", "ours"), "error")
    assert (row.final, row.spread, row.bytes_per_update) == (3.0, 2.0, 10.0)
    assert row.found == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert curves_of(cells, curves) == {row.group: [[9, 8, 7, 6, 2.0], [9, 8, 7, 6, 4.0]]}


def test_a_run_that_diverged_makes_the_row_infinite() -> None:
    cells = _cells(seeds=[0, 1])
    curves = {
        cells[0].scenario.key: _records([9, 8, 7, 6, 2.0], [[]] * 4),
        cells[1].scenario.key: _records([9, 8, None, None, None], [[]] * 4),
    }
    (row,) = summarize(cells, curves)
    assert (row.final, row.spread, row.found) == (math.inf, math.inf, None)
    assert format_metric(row.metric, row.final) == "diverged"


def test_nothing_is_found_where_nobody_lies() -> None:
    cells = _cells(byzantine=[0])
    (row,) = summarize(cells, {cells[0].scenario.key: _records([9, 8, 7, 6, 2.0], [[1, 2, 3]] * 4)})
    assert row.group.attack == "none"
    assert row.found is None


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.9347, "93.5%"),
        ("error", 0.00123, "1.23e-03"),
        ("error", math.inf, "diverged"),
        ("accuracy", math.nan, "diverged"),
    ],
)
def test_format_metric(metric: str, value: float, text: str) -> None:
    assert format_metric(metric, value) == text


def _row(byzantine: int, strategy: str, final: float, *, attack: str = NOISE, compressor: str = "l1-sign", **rest: Any) -> Row:
    group = Group(byzantine, attack if byzantine else "none", compressor, strategy)
    return Row(group, "error", final, 0.0, rest.get("found"), 10.0)


def test_the_headline_tells_the_hardest_setting() -> None:
    rows = [
        _row(0, "ours", 0.001),
        _row(2, "ours", 0.002, found=1.0),
        _row(4, "ours", 0.004, found=0.75),
        _row(0, "theirs", 0.001),
        _row(2, "theirs", 0.5),
        _row(4, "theirs", math.inf),
    ]
    assert headline("T", 10, rows) == (
        "T, 4 of 10 nodes Byzantine (gaussian-noise): ours ends at error 4.00e-03 (1.00e-03 when all are honest) "
        "and trims 75% of the Byzantine nodes; theirs diverged."
    )
    assert headline("T", 10, rows[:1]) == "T, 0 of 10 nodes Byzantine: ours ends at error 1.00e-03."


def test_the_headline_keeps_attacks_and_compressors_apart() -> None:
    rows = [
        _row(byzantine, strategy, final, attack=attack, compressor=compressor)
        for strategy, scale in (("ours", 1.0), ("theirs", 2.0))
        for compressor, factor in (("l1-sign", 1.0), ("top-k", 0.1))
        for byzantine, attack, final in ((0, "", scale * factor), (2, "a", 10 * scale * factor), (2, "b", 99.0))
    ]
    assert headline("T", 10, rows) == (
        "T, 2 of 10 nodes Byzantine (a): ours with l1-sign ends at error 1.00e+01 (1.00e+00 when all are honest); "
        "ours with top-k 1.00e+00, theirs with l1-sign 2.00e+01, theirs with top-k 2.00e+00."
    )
