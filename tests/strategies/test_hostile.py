"""Every kind of hostile reply against every strategy of ours: it neither raises, nor matters, nor takes memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from flwr.serverapp.strategy import FedAvg

from benchmarks.hostile import BUILT_IN, OURS, honest_replies, outcome
from benchmarks.hostile_replies import NORMS, kinds
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.strategies import ByzFL, Decompressed, Reason
from tests.optional import HAS_BYZFL

KINDS = kinds()
STRATEGIES: dict[str, Any] = {**OURS, "Decompressed(FedAvg)": lambda: Decompressed(BUILT_IN["FedAvg"](), compressor=L1Sign())}
if HAS_BYZFL:
    STRATEGIES["ByzFL(Krum)"] = lambda: ByzFL(compressor=L1Sign(), aggregator="Krum", trim=1, fraction_evaluate=0.0)
OVERHEAD = 2**20
"""What a round may take beyond a few copies of the model: log lines, reports, records of the tiny model used here."""


def test_there_are_at_least_45_kinds() -> None:
    assert len(KINDS) >= 45


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_matters(kind: str, name: str) -> None:
    assert outcome(STRATEGIES[name], KINDS[kind]) == "survived"


@pytest.mark.parametrize("kind", NORMS)
def test_norms_that_no_update_has_are_rejected(kind: str) -> None:
    strategy = OURS["NormThreshold, reported"]()
    replies = honest_replies(strategy)
    strategy.aggregate_train(1, [*replies[:8], *KINDS[kind](replies[8])])
    assert [rejection.reason for rejection in strategy.reports[-1].rejected] == [Reason.NORM]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "megabyte" not in kind])
def test_memory_is_bounded(kind: str) -> None:
    strategy = OURS["NormThreshold"]()
    honest = honest_replies(strategy)
    spoiled = KINDS[kind](honest[8])
    tracemalloc.start()
    try:
        strategy.aggregate_train(1, [*honest[:8], *spoiled])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < OVERHEAD + 16 * 4 * 23, "16 float32 copies of the model and a constant"


def test_a_strategy_without_screening_is_ended_by_some() -> None:
    assert outcome(lambda: FedAvg(fraction_evaluate=0.0), KINDS["empty array record"]).startswith("raised")
