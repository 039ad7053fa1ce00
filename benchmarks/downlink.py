"""What the downlink costs a server and a node on large models: time and memory beside the model itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from flwr.app import ArrayRecord, RecordDict

from benchmarks.report import Section, Table, Target
from benchmarks.worker import Step, Worker
from flwr_robustcomp.clients.incoming import receive
from flwr_robustcomp.compressors import Drive, Eden
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.downlink.records import HEADER, NOTHING, Header
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.strategies.downlink.ring import Ring

__all__ = ["measure", "prepare"]

_LARGEST_ARRAY = 10_000_000

_SIDES = ("server", "node")

_RUNGS = {"1 bit": Drive(), "2 bits": Eden(bits=2)}


def _model(d: int, round_: int) -> dict[str, torch.Tensor]:
    """Return a model of so many coordinates, in arrays of ten million, as it is in a round."""
    rng = generator(round_, "model")
    sizes = [min(_LARGEST_ARRAY, d - start) for start in range(0, d, _LARGEST_ARRAY)]
    return {str(n): torch.from_numpy(rng.standard_normal(size, dtype=np.float32)) for n, size in enumerate(sizes)}


def prepare(side: str, d: int, rung: str) -> Step:
    """Let a ring be at version 1; the step is version 2 on the server, or what a node makes of it."""
    torch.set_num_threads(1)
    ring = Ring(Downlink(_RUNGS[rung], None))
    ring.advance(_model(d, 1), None, 4 * d)
    first = ring.held
    state = RecordDict()
    start = receive(_content(Header.between("arrays", NOTHING, first), ring.chain(NOTHING)), state) if side == "node" else None
    state.update({} if start is None else start.kept)
    del start
    model = _model(d, 2)
    if side == "server":
        before = ring.state()

        def arm_server() -> Callable[[], int]:
            ring.restore(before)
            return lambda: _advanced(ring, model, d)

        return arm_server
    ring.advance(model, None, 4 * d)
    content = _content(Header.between("arrays", first, ring.held), ring.chain(first))
    small = Ring(Downlink())
    small.advance(_model(1000, 1), None, 4000)
    another = _content(Header.between("arrays", NOTHING, small.held), small.chain(NOTHING))

    def arm_node() -> Callable[[], int]:
        receive(another, RecordDict())  # a process remembers the last version that it has unpacked
        return lambda: _received(content, state)

    return arm_node


def _advanced(ring: Ring, model: dict[str, torch.Tensor], d: int) -> int:
    ring.advance(model, None, 4 * d)
    return ring.held.version


def _received(content: RecordDict, state: RecordDict) -> int:
    received = receive(content, state)
    return 0 if received is None else received.held.version


def _content(header: Header, arrays: ArrayRecord | None) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord() if arrays is None else arrays, HEADER: header.record()})


def measure(quick: bool) -> Section:
    """Measure both sides at three sizes, a factor of ten apart."""
    sizes = (10_000, 100_000, 1_000_000) if quick else (1_000_000, 10_000_000, 100_000_000)
    lines, seconds = [], {}
    for rung in _RUNGS:
        for side in _SIDES:
            for d in sizes:
                with Worker("benchmarks.downlink:prepare", side=side, d=d, rung=rung) as worker:
                    best = min((worker.measure() for _ in range(2)), key=lambda one: one.seconds)
                seconds[rung, side, d] = best.seconds
                models = best.extra_bytes / (4 * d)
                lines.append(
                    (side, rung, f"{d:,}", f"{best.seconds:.2f} s", f"{best.seconds / d * 1e9:.1f} ns", f"{models:.1f}")
                )
    targets = []
    for rung in _RUNGS:
        for side in _SIDES:
            growth = seconds[rung, side, sizes[2]] / seconds[rung, side, sizes[1]]
            name = f"{side}, {rung}: time from {sizes[1]:,} to {sizes[2]:,} coordinates"
            targets.append(Target(name, "at most 12x (linear is 10x)", f"{growth:.1f}x", growth <= 12))
    return Section(
        "The downlink",
        "One version of a shared replica, one thread, arrays of at most ten million coordinates. The server finds the change, "
        "packs it, adds it to its replica and takes the digest. A node reads the message, unpacks, adds, takes the digest and "
        "writes its state. Memory is the peak beyond what the process held before, in dense float32 models: the new replica is "
        "one of them, and the old one goes when the new one is there.",
        [Table("One version", ("side", "bits", "d", "time", "a coordinate", "extra memory, models"), lines)],
        targets,
    )
