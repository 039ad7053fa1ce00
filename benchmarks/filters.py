"""Filters on packed replies beside Flower's trimmed mean and ByzFL's Krum on dense ones; growth with nodes and coordinates."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from flwr.serverapp.strategy import FedTrimmedAvg

from benchmarks.aggregate import MLP, SMALL, Case, load
from benchmarks.report import Section, Table, Target, megabytes, spread, times
from benchmarks.worker import Measurement, Step, Worker
from flwr_robustcomp import L1Sign, RobustCompressed
from flwr_robustcomp.strategies import ByzFL

__all__ = ["measure", "prepare"]

_OURS, _KRUM = "RobustCompressed (spectral), L1Sign", "RobustCompressed (multi-krum), L1Sign"
_FLOWER, _ADAPTER = "FedTrimmedAvg", "ByzFL(Krum), L1Sign"
_TENSORS, _ARRAYS = "ByzFL's Krum, torch tensors", "ByzFL's Krum, numpy arrays"

STRATEGIES: dict[str, Case] = {
    _OURS: Case(lambda m, f: RobustCompressed(compressor=L1Sign(), trim=f + 2), L1Sign()),
    _KRUM: Case(lambda m, f: RobustCompressed(compressor=L1Sign(), trim=f + 2, filters="multi-krum"), L1Sign()),
    _FLOWER: Case(lambda m, f: FedTrimmedAvg(beta=(f + 2) / m), None),
    _ADAPTER: Case(lambda m, f: ByzFL(compressor=L1Sign(), aggregator="Krum", trim=f + 2), L1Sign()),
}
_OF_BYZFL = (_TENSORS, _ARRAYS, _ADAPTER)
_SLOW = {_ARRAYS: 1}
"""Cases that take so long that they are measured less often, and how often."""

_HAS_BYZFL = importlib.util.find_spec("byzfl") is not None
_MISSING = "ByzFL is not installed here, so its rows and targets are missing: `pip install 'flwr-robustcomp[byzfl]'`."


def measure(quick: bool) -> Section:
    """Measure all cases by turns, then each size on its own."""
    shapes, nodes, repetitions = (SMALL, 40, 2) if quick else (MLP, 200, 5)
    cases = [name for name in (*STRATEGIES, _TENSORS, _ARRAYS) if _HAS_BYZFL or name not in _OF_BYZFL]
    found = _by_turns({name: (name, nodes, shapes) for name in cases}, repetitions)
    d = sum(math.prod(shape) for shape in shapes)
    seconds = {name: statistics.median(m.seconds for m in ms) for name, ms in found.items()}
    extra = {name: max(1.0, statistics.median(m.extra_bytes for m in ms)) for name, ms in found.items()}
    rows = [
        (
            name,
            megabytes(ms[0].value),
            spread([m.seconds for m in ms]),
            times(seconds[name] / seconds[_OURS]),
            megabytes(extra[name]),
            times(extra[name] / extra[_OURS]),
        )
        for name, ms in found.items()
    ]
    wanted = [(_FLOWER, 10), (_TENSORS, 30), (_ARRAYS, 30)]
    targets = []
    for name, speed in [(name, speed) for name, speed in wanted if name in found]:
        faster, leaner = seconds[name] / seconds[_OURS], extra[name] / extra[_OURS]
        targets += [
            Target(f"{_OURS}: times faster than {name}", f"{speed}x", times(faster), faster >= speed),
            Target(f"{_OURS}: times less extra memory than {name}", "10x", times(leaner), leaner >= 10),
        ]
    columns = ("case", "input", "time: median (range)", "this / spectral", "extra memory", "this / spectral")
    byzantine = nodes // 10
    return Section(
        "Filters in the compressed domain",
        f"The updates of {nodes} nodes, d = {d:,} (float32), {byzantine} of them ten times too large; {byzantine + 2} are "
        "trimmed. The strategies are timed from replies to the new model: screening, inner products, filter, sum, step. "
        "FedTrimmedAvg gets dense replies, as Flower's clients send them. "
        "ByzFL's Krum is timed alone, on the dense updates as one matrix that is there before the clock starts: neither "
        "receiving nor decompressing is charged to it, and it makes no new model. It accepts torch tensors and numpy arrays, "
        "whose distances it computes in different ways; both are shown. `ByzFL(Krum)` is our strategy around it, from packed "
        f"replies to the new model. Median of {repetitions} repetitions (numpy arrays: one), by turns, each case in a process "
        "of its own, with the threads that each takes by default. Extra memory as under *Aggregation on the server*.",
        [Table(f"{nodes} updates, d = {d:,}", columns, rows), _growth(quick)],
        targets,
        [] if _HAS_BYZFL else [_MISSING],
    )


def _growth(quick: bool) -> Table:
    """Measure how time and memory grow with m and with d."""
    sizes = [(20, 10_000), (40, 10_000), (40, 5_000)] if quick else _SIZES
    cases = [_OURS, *([_TENSORS] if _HAS_BYZFL else [])]
    rows = []
    for m, d in sizes:
        found = _by_turns({name: (name, m, ((d,),)) for name in cases}, 2 if quick else 3)
        row = [f"{m:,} nodes, d = {d:,}"]
        for name in cases:
            row += [
                spread([one.seconds for one in found[name]]),
                megabytes(statistics.median(o.extra_bytes for o in found[name])),
            ]
        pairs = m * (m - 1) / 2 * d
        rows.append((*row, f"{1e12 * statistics.median(o.seconds for o in found[_OURS]) / pairs:.3g} ps"))
    named = [f"{name}{what}" for name in cases for what in (": time", ": extra memory")]
    return Table("Growth", ("size", *named, f"{_OURS}: time for a pair and coordinate"), rows)


_SIZES = [(m, 795_010) for m in (50, 100, 200, 400)] + [(200, d) for d in (50_000, 200_000, 3_200_000)]


def _by_turns(cases: dict[str, tuple[str, int, Any]], repetitions: int) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {name: [] for name in cases}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker("benchmarks.filters:prepare", case=case, nodes=nodes, shapes=shapes))
            for name, (case, nodes, shapes) in cases.items()
        }
        for name, worker in workers.items():
            if name not in _SLOW:
                worker.measure()  # warm up
        for turn in range(repetitions):
            for name, worker in workers.items():
                if turn < _SLOW.get(name, repetitions):
                    found[name].append(worker.measure())
    return found


def prepare(case: str, nodes: int, shapes: list[list[int]]) -> Step:
    """Load the replies of a strategy's case; or the updates of ByzFL's, as one matrix."""
    byzantine = nodes // 10
    if case in STRATEGIES:
        return load(STRATEGIES[case], nodes, byzantine, shapes)
    import torch

    from flwr_robustcomp.strategies.byzfl import classes_of

    rows = torch.empty(nodes, sum(math.prod(shape) for shape in shapes))
    for node, row in enumerate(rows):
        x = np.random.default_rng([1, node]).standard_normal(row.numel(), dtype=np.float32)
        row.copy_(torch.from_numpy(x * np.float32(10.0 if node < byzantine else 1.0)))
    krum, matrix = classes_of("aggregators")["Krum"](f=byzantine + 2), rows if case == _TENSORS else rows.numpy()

    def arm() -> Callable[[], int]:
        def timed() -> int:
            if krum(matrix).shape != (rows.shape[1],):
                raise RuntimeError(f"{case} aggregated nothing")
            return rows.nbytes

        return timed

    return arm
