"""Every kind of hostile reply against every strategy of ours: it neither raises, nor matters, nor takes memory."""

from __future__ import annotations

import functools
import tracemalloc
from typing import Any

import pytest

from benchmarks.hostile import BUILT_IN, OURS, honest_replies, outcome
from benchmarks.hostile_replies import NORMS, VECTORS, kinds
from benchmarks.parts.strategies import installed
from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.strategies import Decompressed, Reason

KINDS = kinds()
STRATEGIES: dict[str, Any] = {**OURS, "Decompressed(FedAvg)": lambda: Decompressed(BUILT_IN["FedAvg"](), compressor=L1Sign())}
STRATEGIES |= {sample.label: functools.partial(sample.make, 1, fraction_evaluate=0.0) for sample in installed() if sample.extra}
OVERHEAD = 2**20
"""What a round may take beyond a few copies of the model: log lines, reports, records of the tiny model used here."""


def test_there_are_at_least_115_kinds() -> None:
    assert len(KINDS) >= 115


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in VECTORS])
def test_no_kind_matters(kind: str, name: str) -> None:
    assert outcome(STRATEGIES[name], kind) == "survived"


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "Decompressed(FedAvg)"])
@pytest.mark.parametrize("kind", VECTORS)
def test_no_vector_moves_the_model_far(kind: str, name: str) -> None:
    assert outcome(STRATEGIES[name], kind) == "survived"


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
    assert outcome(BUILT_IN["FedAvg"], "empty array record").startswith("raised")


@pytest.mark.parametrize("kind", ["a scale of 1e30", "the largest scale"])
def test_one_vector_moves_a_plain_mean_far(kind: str) -> None:
    assert outcome(BUILT_IN["FedAvg"], kind) == "far"
    assert outcome(STRATEGIES["Decompressed(FedAvg)"], kind) == "far"
