"""Arrays that travel uncompressed: the other way in for hostile bytes, and the median that they get."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import FedMedian

from flwr_robustcomp import from_arrays, to_arrays, wire
from flwr_robustcomp.compressors import Identity, L1Sign
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Reason, RobustCompressed
from tests.apps import Model
from tests.strategies.rounds import SAMPLING, answer, answers, ask, updates

MODEL: Model = {"w": torch.zeros(5), "bn.running_mean": torch.ones(2), "count": torch.tensor(4)}
XS = updates(6, MODEL)


def _npy(descr: str, shape: str = "(2,)", body: bytes = b"", pad: int = 117) -> Array:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(pad) + b"\n"
    data = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + body
    return Array("float32", (2,), "numpy.ndarray", data)


HOSTILE: dict[str, Array | None] = {
    "missing": None,
    "NaN": Array(np.array([1.0, math.nan], np.float32)),
    "infinite": Array(np.array([1.0, -math.inf], np.float32)),
    "another dtype": Array(np.ones(2)),
    "another shape": Array(np.ones((2, 1), np.float32)),
    "packed": wire.pack(L1Sign().compress(torch.ones(2)), L1Sign()),
    "pickle": Array("float32", (2,), "pickle", b"\x80\x04."),
    "empty": Array("float32", (2,), "numpy.ndarray", b""),
    "objects": _npy("'|O'", body=bytes(16)),
    "text of no length": _npy("'S0'"),
    "bytes of no length": _npy("'V0'"),
    "a record of no fields": _npy("[]"),
    "arrays inside the array": _npy("('<f4', (2,))", body=bytes(16)),
    "dates": _npy("'<M8[s]'", body=bytes(16)),
    "complex": _npy("'<c8'", body=bytes(16)),
    "a shape of terabytes": _npy("'<f4'", "(1099511627776,)"),
    "a header of half a megabyte": _npy("'<f4'", body=bytes(8), pad=2**19),
    "a header that is no literal": _npy("__import__('os').getpid()", body=bytes(8)),
}
assert _npy("'<f4'", body=bytes(8)).numpy().tolist() == [0.0, 0.0], "the hostile headers above are well-formed otherwise"


def _spoil(reply: Message, array: Array | None) -> Message:
    record = reply.content["arrays"]
    assert isinstance(record, ArrayRecord)
    if array is None:
        del record["bn.running_mean"]
    else:
        record["bn.running_mean"] = array
    return reply


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "make",
    [
        lambda: NormThreshold(compressor=L1Sign(), trim=1, **SAMPLING),
        lambda: Decompressed(FedMedian(**SAMPLING), compressor=L1Sign()),
    ],
    ids=["norm-threshold", "decompressed"],
)
def test_a_hostile_array_costs_its_sender_the_reply(make: Callable[[], Any], name: str) -> None:
    strategy = make()
    replies = answers(strategy, XS, L1Sign(), model=MODEL)
    honest, _ = strategy.aggregate_train(1, replies[:5])
    got, _ = strategy.aggregate_train(1, [*replies[:5], _spoil(replies[5], HOSTILE[name])])
    assert got == honest and honest is not None
    (rejection,) = strategy.reports[-1].rejected
    assert (rejection.node_id, rejection.reason) == (1005, Reason.ARRAYS if name == "missing" else Reason.WIRE)


def _told(values: list[Any], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what x becomes when the nodes report these values for it, and x itself."""
    model: Model = {"w": torch.zeros(3), "x": like}
    strategy = NormThreshold(compressor=L1Sign(), uncompressed=("x",), **SAMPLING)
    replies = []
    for request, value in zip(ask(strategy, len(values), model), values, strict=True):
        reply = answer(request, torch.ones(3), L1Sign(), model={"w": model["w"]})
        record = reply.content["arrays"]
        assert isinstance(record, ArrayRecord)
        record["x"] = to_arrays({"x": torch.full_like(like, value)})["x"]
        replies.append(reply)
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None and strategy.reports[-1].rejected == ()
    return from_arrays(arrays)["x"], like


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (0,), (2, 0)], ids=str)
def test_every_dtype_has_a_median_that_some_node_sent(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if 0 in shape and dtype == torch.bfloat16:
        return
    limit = (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype)
    got, like = _told([3, limit.max, 5, limit.min, 4], torch.zeros(shape, dtype=dtype))
    assert (got.dtype, got.shape) == (like.dtype, like.shape)
    # The outliers lie on either side of 3, 4, 5; the largest uint64, for want of a wider type, counts as one below.
    assert torch.equal(got, torch.full_like(like, 3 if dtype == torch.uint64 else 4))


def test_flags_go_by_majority() -> None:
    assert _told([True, False, True], torch.tensor([False, False]))[0].tolist() == [True, True]
    assert _told([True, False], torch.tensor([False]))[0].tolist() == [False]  # the lower median


def liars_with_zero_updates(strategy: Any, liars: int = 8, honest: int = 12) -> tuple[ArrayRecord | None, Any]:
    """Play a round in which liars send zeros, which filters like, and spoil all else."""
    xs = updates(honest, MODEL)
    replies = []
    for i, request in enumerate(ask(strategy, liars + honest, MODEL)):
        if i < liars:
            lie: Model = {**MODEL, "bn.running_mean": torch.full((2,), 3e38), "count": torch.tensor(-9)}
            told = {"num-examples": 3, "acc": 1e30, "invented": 666.0}
            replies.append(answer(request, torch.zeros(5), Identity(), model=lie, metrics=told))
        else:
            told = {"num-examples": 3, "acc": 0.5}
            replies.append(answer(request, xs[i - liars], Identity(), model=MODEL, metrics=told))
    arrays, metrics = strategy.aggregate_train(1, replies)
    return arrays, metrics


STRATEGIES: list[Callable[[], Any]] = [
    lambda: NormThreshold(compressor=Identity(), trim=8, **SAMPLING),
    lambda: NormThreshold(compressor=Identity(), trim=0.4, **SAMPLING),
    *(
        lambda filters=filters: RobustCompressed(compressor=Identity(), trim=8, filters=filters, **SAMPLING)
        for filters in ("norm", "spectral", "multi-krum", "geometric-median", "norm-clipping")
    ),
    lambda: Decompressed(FedMedian(**SAMPLING), compressor=Identity()),
]


@pytest.mark.parametrize("make", STRATEGIES)
def test_zero_updates_buy_no_majority(make: Callable[[], Any]) -> None:
    """Eight of twenty lie, and make the filter spend its budget on honest updates: they are the majority of the kept."""
    arrays, metrics = liars_with_zero_updates(make())
    assert arrays is not None
    model = from_arrays(arrays)
    assert model["bn.running_mean"].tolist() == [1.0, 1.0]
    assert model["count"].item() == 4
    assert metrics["acc"] == 0.5 and metrics["robustcomp.told.acc"] == 20
    assert not [name for name in metrics if "invented" in name]


def test_batch_statistics_do_not_hide_a_step_of_zero() -> None:
    strategy = NormThreshold(compressor=Identity(), **SAMPLING)
    moving: Model = {**MODEL, "bn.running_mean": torch.full((2,), 7.0)}
    replies = [answer(request, torch.zeros(5), Identity(), model=moving) for request in ask(strategy, 5, MODEL)]
    strategy.aggregate_train(1, replies)
    assert strategy.reports[-1].step == 0.0 and strategy.reports[-1].alarm is not None
