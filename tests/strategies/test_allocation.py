"""What the server allocates for one reply, counted where numpy and Python allocate and where torch does.

The two peaks need not come at the same time: their sum is an upper bound of what is held at once. Counts, and not resident
memory: they are the same on every run.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message
from flwr.serverapp.strategy import FedAvg
from torch.profiler import ProfilerActivity, profile

from benchmarks.parts.compressors import TYPICAL
from flwr_robustcomp.compressors import Compressor, Identity, Sign
from flwr_robustcomp.strategies import Decompressed, NormThreshold, SignMajorityVote
from tests.strategies.rounds import SAMPLING, answers

MODEL = {"w": torch.zeros(512, 1024)}
DENSE = MODEL["w"].nbytes

SCREENING = {"identity": 3.0, "low-rank": 3.0, "rotated-quantizer": 4.25}
"""Copies of the dense float32 model that reading a reply may take. Half a copy, where nothing else is said: most payloads are
checked without being unpacked."""

ROUND = {"drive": 9.25, "eden": 9.25, "random-k": 9.25, "rotated-quantizer": 10.25}
"""The same for a round of `NormThreshold`, or of `SignMajorityVote`, with one reply; `_ANY_ROUND` where nothing is said."""

_ANY_ROUND = 7.25
"""Whatever came: w_t, the sum, the new model, its bytes, and the length of the step."""

DECOMPRESSED = 8.25
"""The same for `Decompressed`, whose inner strategy holds the reply as dense weights."""

CONSTANT = {"spherical-net": 18 << 20}
"""Bytes that do not grow with the model: blocks that compressors work in. 2 MiB, where nothing else is said."""


def _allocated(call: Callable[[], object]) -> int:
    """Return the peak of numpy's and Python's allocations plus the peak of torch's while something is called."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        tracemalloc.start()
        try:
            call()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return peak + int(np.cumsum([0, *changes]).max())


def _round(strategy: Any, compressor: Compressor, granularity: str = "model") -> list[Message]:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(MODEL["w"].numel())).float()
    replies = answers(strategy, [x], compressor, granularity=granularity, model=MODEL)
    strategy.receiver.screen(replies)  # fills the caches
    return replies


def _sent(reply: Message) -> int:
    return sum(len(a.data) for r in reply.content.values() if isinstance(r, ArrayRecord) for a in r.values())


def _most(copies: float, sent: int, name: str) -> float:
    return copies * DENSE + sent + CONSTANT.get(name, 2 << 20)


@pytest.mark.parametrize("name", TYPICAL)
def test_a_reply_costs_so_many_copies_of_the_model(name: str) -> None:
    compressor, granularity = TYPICAL[name], "array" if TYPICAL[name].wants_matrices else "model"
    options: dict[str, Any] = {"granularity": granularity, **SAMPLING}
    vote = isinstance(compressor, Sign)
    strategy = SignMajorityVote(**options) if vote else NormThreshold(compressor=compressor, **options)
    replies = _round(strategy, compressor, granularity)
    assert _allocated(lambda: strategy.receiver.screen(replies)) <= _most(SCREENING.get(name, 0.5), _sent(replies[0]), name)
    assert _allocated(lambda: strategy.aggregate_train(1, replies)) <= _most(
        ROUND.get(name, _ANY_ROUND), _sent(replies[0]), name
    )
    assert strategy.reports[-1].skipped is None and len(strategy.reports[-1].kept) == 1
    for array in replies[0].content.array_records["arrays"].values():
        array.data = array.data[:-8] + b"\xff" * 8
    assert _allocated(lambda: strategy.receiver.screen(replies)) <= _most(SCREENING.get(name, 0.5), _sent(replies[0]), name)


@pytest.mark.parametrize("name", ["identity", "l1-sign", "rotated-quantizer", "cross-polytope"])
def test_a_reply_behind_decompressed_costs_so_many_copies(name: str) -> None:
    compressor = TYPICAL[name]
    strategy = Decompressed(FedAvg(**SAMPLING), compressor=compressor)
    replies = _round(strategy, compressor)
    assert _allocated(lambda: strategy.aggregate_train(1, replies)) <= _most(DECOMPRESSED, _sent(replies[0]), name)
    assert strategy.reports[-1].skipped is None


def test_the_measure_sees_both_allocators() -> None:
    for call in (lambda: np.ones(DENSE // 8), lambda: torch.ones(DENSE // 4), lambda: Identity().compress(MODEL["w"])):
        assert DENSE <= _allocated(call) <= 3 * DENSE
