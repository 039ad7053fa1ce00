"""`python -m benchmarks.remembering`: what a memory of sketches costs a round of a large model, in time and in memory.

20 nodes and ten million coordinates, about two minutes; each case in a process of its own, on one core. The first round also
draws the map of the sketch, which is kept. Extra memory is the peak above what the process had with all updates loaded, so that
later rounds have the map and the memory in what they began with.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.worker import Step, Worker
from flwr_robustcomp.compressors import Compressor, Drive, L1Sign
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.strategies import RobustCompressed
from flwr_robustcomp.strategies.replies.screening import Update
from flwr_robustcomp.strategies.round import Round

__all__ = ["main", "prepare"]

NODES, DIMENSION, ROUNDS = 20, 10_000_000, 3

COMPRESSORS: dict[str, type[Compressor]] = {"drive": Drive, "l1-sign": L1Sign}


def prepare(compressor: str) -> Step:
    """Pack an update of each node; the step remembers them once more."""
    torch.set_num_threads(1)
    packing = Packing(COMPRESSORS[compressor]())
    model = {"w": torch.zeros(DIMENSION)}
    strategy = RobustCompressed(compressor=packing, trim=2, filters="norm-clipping+over-time:spectral", memory=0.9, seed=0)
    layout = packing.layout(model)
    spans, updates = packing.spans(layout, 1), []
    for node in range(NODES):
        x = torch.from_numpy(generator(node, "update").standard_normal(DIMENSION, dtype=np.float32))
        payloads = tuple(span.compressor.compress(x, generator(node, "noise")) for span in spans)
        updates.append(Update(None, node, payloads, {}, None, {}))  # type: ignore[arg-type]  # no message is looked at
    round_ = Round(1, packing, layout, spans, model, updates, [], strategy.policy)

    def arm() -> Callable[[], None]:
        def timed() -> None:
            gram = strategy.remember(round_)
            if gram is not None:
                gram()

        return timed

    return arm


def main() -> None:
    """Print a line for each compressor and round."""
    print("| compressor | round | seconds | per node | extra memory |")
    print("|---|--:|--:|--:|--:|")
    for name in COMPRESSORS:
        with Worker("benchmarks.remembering:prepare", compressor=name) as worker:
            for round_ in range(1, ROUNDS + 1):
                one = worker.measure()
                cost = f"{one.seconds:.2f} s | {one.seconds / NODES * 1000:.0f} ms | {one.extra_bytes / 1e6:.0f} MB"
                print(f"| `{name}` | {round_} | {cost} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
