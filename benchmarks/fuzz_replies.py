"""`python -m benchmarks.fuzz_replies`: whole replies that no honest client sent, against every strategy.

Fifteen honest nodes and five hostile ones answer in each round. A hostile reply is an honest one, changed up to four times by
what `MUTATIONS` lists, or an honest compression of a vector of any size, each liar's own or of a collusion (`draw`). Whatever
comes, `aggregate_train` must not raise, every honest update must be accepted, every sender accounted for, the model finite
and of its own shapes and dtypes, memory bounded, and the step no longer than the strategy promises; and `aggregate_evaluate`
must not raise, nor report a loss outside of the honest ones'. Anything else is printed with the command that repeats it, and
the exit status is 1.
"""

from __future__ import annotations

import argparse
import copy
import gc
import logging
import math
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.colluding_vectors import Matrix, colluding_rows, draw
from benchmarks.fuzz_subjects import NODES, SUBJECTS, TRIM
from benchmarks.reply_mutations import MUTATIONS, Surroundings, spoil
from flwr_robustcomp import compressors as q
from flwr_robustcomp import from_arrays, to_arrays, wire
from flwr_robustcomp.compressors import vector_norm
from flwr_robustcomp.flower import assume_identity
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.spans import compress_spans
from flwr_robustcomp.strategies.report import STRANGERS

__all__ = ["HONEST", "HOSTILE", "Arena", "Plan", "plans"]

HOSTILE = TRIM
HONEST = NODES - HOSTILE

Plan = Sequence[tuple[str, int]]
"""What is done to one reply: names of `MUTATIONS`, ``"repeat"``, ``"vector"`` or ``"collude"``, each with a seed."""

_OWN = ("vector", "collude")
"""Steps that put another vector in the place of the honest one."""

_ROUNDING = 1e-3
"""Of a step in float32, in units of the longest honest update."""

_ALLOWANCE = 4 << 20
_DENSE_COPIES = 40
"""Bytes, and dense models for each node, that a round may take beyond its replies, decompressed strategies included."""


def _model(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a model with a matrix, a vector and a counter that travels uncompressed."""
    rng = np.random.default_rng(5)
    weights = {name: torch.from_numpy(rng.standard_normal(shape)).to(dtype) for name, shape in (("w", (6, 4)), ("b", (5,)))}
    return {**weights, "steps": torch.tensor(7)}


@dataclass
class Arena:
    """A strategy that has asked once, the honest replies, and rounds against it."""

    name: str
    strategy: Any = field(init=False)
    honest: list[Message] = field(init=False)
    around: Surroundings = field(init=False)

    def __post_init__(self) -> None:
        subject = SUBJECTS[self.name]
        self._subject = subject
        self._model = _model(subject.dtype)
        self._layout = Layout.of(self._model)
        self._spans = Packing(subject.compressor, subject.granularity).spans(self._layout, round_=1)
        self.strategy = subject.strategy()
        asked = self._asked(self.strategy.configure_train)
        self._asked(self.strategy.configure_evaluate)
        rng = np.random.default_rng(0)
        xs = [torch.from_numpy(rng.standard_normal(self._layout.dim)).to(subject.dtype) for _ in asked]
        losses = np.linspace(1, 2, NODES)
        self.honest = [self._reply(message, x, rng, loss) for message, x, loss in zip(asked, xs, losses, strict=True)]
        self._xs = torch.stack(xs[:HONEST]).double().numpy()  # (15, d)
        self._longest = max(map(self._length, self.honest[:HONEST]))
        own = [array for reply in self.honest[:3] for array in _arrays_of(reply)]
        x = xs[0].float()
        foreign = [wire.pack(c.compress(x, rng), c) for c in (q.Sign(), q.L1Sign(), q.Identity(), q.TopK(ratio=0.3))]
        self.around = Surroundings(
            tuple(message.metadata.src_node_id for message in self.honest[HONEST:]),
            (*own, *foreign, *_arrays_of_record(to_arrays(self._model))),
        )
        self._dense = sum(tensor.numel() * tensor.element_size() for tensor in self._model.values())

    def play(self, round_: Sequence[Plan], *, measured: bool = False) -> str | None:
        """Play a round in which the hostile nodes follow their plans; return what went wrong, None if nothing did."""
        replies = list(self.honest[:HONEST])
        for reply, plan in zip(self.honest[HONEST:], round_, strict=True):
            replies += spoil(self._based(reply, plan), [step for step in plan if step[0] not in _OWN], self.around)
        senders = {_named(message.metadata.src_node_id) for message in replies}
        try:
            if measured:
                tracemalloc.start()
            arrays, metrics = self.strategy.aggregate_train(1, replies)
            peak = tracemalloc.get_traced_memory()[1] if measured else 0
            told = self.strategy.aggregate_evaluate(1, replies)
        except BaseException as error:  # noqa: BLE001 (this is what the fuzzer looks for)
            return f"raised {type(error).__name__}: {str(error)[:200]}"
        finally:
            tracemalloc.stop()
        report = self.strategy.reports.pop()
        faults = (
            self._accounting(report, senders),
            self._moved(arrays, report),
            self._told(metrics, told),
            f"took {peak:,} bytes" if peak > _DENSE_COPIES * NODES * self._dense + _ALLOWANCE else None,
        )
        return next((fault for fault in faults if fault is not None), None)

    def _accounting(self, report: Any, senders: set[int]) -> str | None:
        accepted, rejected = {*report.kept, *report.trimmed}, {one.node_id for one in report.rejected}
        if report.skipped is not None:
            accepted = {*accepted, *(senders - rejected)}  # a round without a result keeps and trims nobody
        if lost := {message.metadata.src_node_id for message in self.honest[:HONEST]} - accepted:
            return f"did not accept {len(lost)} honest replies: {[r.detail for r in report.rejected if r.node_id in lost][:1]}"
        if accepted & rejected:
            return "accepted and rejected one node"
        return None if senders <= accepted | rejected else "lost a sender"

    def _moved(self, arrays: ArrayRecord | None, report: Any) -> str | None:
        if arrays is None:
            return None if report.skipped else "gave no model and no reason"
        tensors = from_arrays(arrays)
        if {n: (t.shape, t.dtype) for n, t in tensors.items()} != {n: (t.shape, t.dtype) for n, t in self._model.items()}:
            return "gave a model of other names, shapes or dtypes"
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            return "put NaN or infinity into the model"
        step = (
            float(torch.linalg.vector_norm(self._layout.flatten(tensors) - self._layout.flatten(self._model))) / self._longest
        )
        promise = self._subject.promise
        return (
            None
            if promise is None or step <= promise + _ROUNDING
            else f"stepped {step:.3g} honest lengths, promised {promise:.3g}"
        )

    def _length(self, reply: Message) -> float:
        """Return how long an honest reply's update is, as the server decodes it."""
        packed = zip(self._spans, self.strategy.receiver.screen([reply]).accepted[0].payloads, strict=True)
        return math.hypot(*(span.compressor.norm(payload) for span, payload in packed))

    def _told(self, metrics: MetricRecord, told: MetricRecord) -> str | None:
        for record in (metrics, told):
            for name, value in record.items():
                if not np.isfinite(np.asarray(value, dtype=np.float64)).all():
                    return f"reported {name[:40]!r} as {value}"
        loss = told.get("loss")
        return None if isinstance(loss, float) and 1 <= loss <= 2 else f"reported an evaluation loss of {loss}"

    def _based(self, reply: Message, plan: Plan) -> Message:
        """Return the honest reply, or with ``"vector"`` in the plan the honest compression of a vector of any size."""
        for name, seed in plan:
            if name in _OWN:
                rng = np.random.default_rng(seed)
                x = torch.from_numpy(self._vector(rng) if name == "vector" else self._colluding(reply, rng))
                try:
                    return self._reply(_request_of(reply), torch.nan_to_num(x.to(self._subject.dtype)), rng, 1.5)
                except ValueError:  # too large to be compressed at all
                    return reply
        return reply

    def _vector(self, rng: np.random.Generator) -> Matrix:
        """Return a vector of any length that the dtype holds."""
        info = torch.finfo(self._subject.dtype)
        exponent = rng.uniform(np.log10(info.tiny), np.log10(info.max))
        return np.asarray(rng.standard_normal(self._layout.dim) * 10.0**exponent)

    def _colluding(self, reply: Message, rng: np.random.Generator) -> Matrix:
        """Return a hostile node's part in what all nodes with this generator do together."""
        _, colluders = draw(rng, HOSTILE)
        place = [one.metadata.src_node_id for one in self.honest[HONEST:]].index(reply.metadata.src_node_id)
        with np.errstate(over="ignore"):
            rows = colluding_rows(self._xs, colluders, rng)
        return np.asarray(rows[HONEST + place % len(colluders)])

    def _reply(self, request: Message, x: torch.Tensor, rng: np.random.Generator, loss: float) -> Message:
        packed = zip(self._spans, compress_spans(x, self._spans, rng), strict=True)
        arrays = ArrayRecord({span.name or wire.MODEL_ARRAY: wire.pack(payload, span.compressor) for span, payload in packed})
        for slot in self._layout.uncompressed:
            arrays[slot.name] = wire.to_array(self._model[slot.name])
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 3, "loss": float(loss)})})
        content[wire.NORM_RECORD] = ConfigRecord({"norm-2": vector_norm(x, 2)})
        return Message(content, reply_to=request)

    def _asked(self, configure: Callable[..., Any]) -> list[Message]:
        grid = InProcessGrid(ClientApp(), NODES)
        requests = list(configure(1, to_arrays(self._model), ConfigRecord(), grid))
        for request in requests:
            request.metadata.__dict__["_message_type"] = "train"  # one set of replies serves both questions
        return sorted(requests, key=lambda message: message.metadata.dst_node_id)


def _named(sender: object) -> int:
    """Return the node that a report can name for a sender: strangers share one number."""
    return sender if isinstance(sender, int) and -(2**63) <= sender < 2**64 else STRANGERS


def _request_of(reply: Message) -> Message:
    """Return a request that a reply to would look like this reply."""
    request = copy.copy(reply)
    metadata = copy.copy(reply.metadata)
    metadata.__dict__.update(
        _src_node_id=reply.metadata.dst_node_id,
        _dst_node_id=reply.metadata.src_node_id,
        _message_id=reply.metadata.reply_to_message_id,
        _reply_to_message_id="",
    )
    request.__dict__["_metadata"] = metadata
    return request


def _arrays_of(reply: Message) -> list[Array]:
    return [array for record in reply.content.values() if isinstance(record, ArrayRecord) for array in record.values()]


def _arrays_of_record(record: ArrayRecord) -> list[Array]:
    return list(record.values())


def plans(rng: np.random.Generator) -> list[Plan]:
    """Draw the plans of a round's hostile nodes."""
    names = [*MUTATIONS, "bytes", "bytes", "header", "metric", "repeat"]
    drawn: list[Plan] = []
    for _ in range(HOSTILE):
        steps = [(names[int(rng.integers(len(names)))], int(rng.integers(2**32))) for _ in range(int(rng.integers(1, 5)))]
        if rng.random() < 0.3:
            steps = [("vector", int(rng.integers(2**32))), *(steps if rng.random() < 0.3 else [])]
        drawn.append(steps)
    if rng.random() < 0.4:  # all together: the same numbers for all, each with a part of its own
        together = ("collude", int(rng.integers(2**32)))
        drawn = [[together, *(steps if rng.random() < 0.1 else [])] for steps in drawn]
    return drawn


def _rounds(arenas: Sequence[Arena], count: int, seed: int, first: int = 0) -> Iterator[tuple[int, Arena, str | None]]:
    for number in range(first, count):
        arena = arenas[number % len(arenas)]
        round_ = plans(np.random.default_rng([seed, number]))
        yield number, arena, arena.play(round_, measured=number // len(arenas) % 64 == 0)


def main() -> None:
    """Fuzz as long as the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_replies", description=__doc__.splitlines()[0])
    parser.add_argument("--replies", type=int, default=1_000_000, help="hostile replies, five a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", type=int, help="play this round only")
    options = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")  # numpy's, from Flower's strategies on large numbers
    assume_identity(1)
    torch.set_num_threads(1)
    arenas = [Arena(name) for name in SUBJECTS]
    gc.freeze()  # Flower collects garbage for every reply that its strategies read, which is slow among so many modules
    count = -(-options.replies // HOSTILE) if options.round is None else options.round + 1
    started, faults = time.perf_counter(), 0
    for number, arena, fault in _rounds(arenas, count, options.seed, options.round or 0):
        if fault is not None:
            faults += 1
            print(f"{arena.name}: {fault}")
            print(f"  python -m benchmarks.fuzz_replies --seed {options.seed} --round {number}", flush=True)
    rate = HOSTILE * (count - (options.round or 0)) / (time.perf_counter() - started)
    told = f"{HOSTILE * count:,} hostile replies to {len(arenas)} strategies, seed {options.seed}: {faults} faults"
    print(f"{told}, {rate:,.0f} a second")
    sys.exit(min(faults, 1))


if __name__ == "__main__":
    main()
