"""The line at the start of a run that no theorem covers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from flwr_robustcomp.compressors import QSGD, Compressor, Identity, L1Sign, Sign, TopK
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies import NormThreshold
from flwr_robustcomp.strategies.guarantee import delta_of_spans
from tests.strategies.rounds import MODEL, SAMPLING, ask


def _said(caplog: pytest.LogCaptureFixture, rounds: int = 1, **options: Any) -> list[tuple[int, str]]:
    strategy = NormThreshold(**options, **SAMPLING)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for round_ in range(1, rounds + 1):
            ask(strategy, 20, round_=round_)
    return [(r.levelno, r.getMessage()) for r in caplog.records if "Theorem" in r.getMessage()]


@pytest.mark.parametrize(
    "options",
    [
        {"compressor": Identity(), "trim": 4},
        {"compressor": TopK(ratio=0.9), "trim": 2},
        {"compressor": TopK(ratio=0.9), "trim": 2, "norm": "reported"},
        {"compressor": L1Sign(), "trim": 0},
        {"compressor": QSGD(levels=300), "trim": 1, "norm": "reported"},
        {"compressor": QSGD(levels=300), "trim": 1},
    ],
    ids=str,
)
def test_silent_where_covered(caplog: pytest.LogCaptureFixture, options: dict[str, Any]) -> None:
    assert _said(caplog, **options) == []


@pytest.mark.parametrize(
    ("options", "level", "line"),
    [
        (
            {"compressor": L1Sign(), "trim": 0.1},
            logging.INFO,
            "Theorem 2 does not cover 2 Byzantine of 20 nodes, the worst that trim=0.1 is for: "
            "delta must exceed 0.395, and L1Sign() guarantees 0.0435 (docs/theory.md)",
        ),
        ({"compressor": Sign(), "trim": 2, "norm": "reported"}, logging.WARNING, "a client that lies may report any"),
        ({"compressor": QSGD(levels=1), "trim": 2}, logging.INFO, "delta must exceed 0.395, and QSGD(levels=1) guarantees"),
        ({"compressor": Identity(), "trim": 8}, logging.WARNING, "no compressor would do"),
        ({"compressor": Identity(), "trim": 2, "norm_order": 1}, logging.WARNING, "the proofs need the l2 norm"),
    ],
    ids=str,
)
def test_one_line_with_its_numbers(caplog: pytest.LogCaptureFixture, options: dict[str, Any], level: int, line: str) -> None:
    ((found, said),) = _said(caplog, rounds=3, **options)
    assert found == level and line in said and "\n" not in said


@pytest.mark.parametrize("compressor", [L1Sign(), TopK(k=2)], ids=repr)
def test_a_models_delta_is_that_of_its_worst_array(compressor: Compressor) -> None:
    layout = Layout.of(MODEL)
    sizes = [tensor.numel() for tensor in MODEL.values()]
    per_array = delta_of_spans(Packing(compressor, "array").spans(layout))
    assert per_array == min(compressor.delta(n) or 0 for n in sizes)
    assert delta_of_spans(Packing(compressor).spans(layout)) == compressor.delta(sum(sizes))
    assert delta_of_spans(Packing(Sign(), "array").spans(layout)) is None
    x = torch.cat([t.flatten() for t in MODEL.values()])
    parts = [compressor.decompress(compressor.compress(t)).flatten() for t in MODEL.values()]
    lost = float((torch.cat(parts) - x).square().sum() / x.square().sum())
    assert 1 - lost >= (per_array or 0) - 1e-6
