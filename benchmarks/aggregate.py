"""`aggregate_train` on the replies of 200 nodes: ours on packed replies, Flower's on dense replies of the same updates."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedTrimmedAvg, MultiKrum
from torch import Tensor

from benchmarks.report import Section, Table, Target, megabytes, spread, times
from benchmarks.worker import Measurement, Step, Worker
from flwr_robustcomp import QSGD, Drive, Identity, L1Sign, NormThreshold, RobustCompressed, Sign, SignMajorityVote, TopK, wire
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.flower import private_copy
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.settings import RECIPE
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.simulations.runs.run import quiet_flower

__all__ = ["MLP", "SMALL", "Case", "load", "measure", "prepare"]

MLP = ((1000, 784), (1000,), (10, 1000), (10,))
"""Shapes of a perceptron with one hidden layer of 1,000 on 28 x 28 pixels: d = 795,010."""

SMALL = ((100, 99), (100,))
"""d = 10,000, to see that everything works."""

_OURS, _FILTERED, _REFERENCE = "NormThreshold, L1Sign", "RobustCompressed (spectral), L1Sign", "FedTrimmedAvg"
_RECIPES = {"L1Sign": "the recipe, L1Sign", "Drive": "the recipe, Drive"}
_RULE = "trimmed mean alone, L1Sign"


@dataclass(frozen=True)
class Case:
    """A strategy for m nodes of which f are Byzantine, and how replies travel (None: dense)."""

    strategy: Callable[[int, int], FedAvg]
    compressor: Compressor | None


def _threshold(compressor: Compressor) -> Case:
    return Case(lambda m, f: NormThreshold(compressor=compressor, trim=f + 2), compressor)


def _robust(compressor: Compressor, **options: Any) -> Case:
    return Case(lambda m, f: RobustCompressed(compressor=compressor, trim=f + 2, **options), compressor)


CASES: dict[str, Case] = {
    _OURS: _threshold(L1Sign()),
    _REFERENCE: Case(lambda m, f: FedTrimmedAvg(beta=(f + 2) / m), None),
    "MultiKrum": Case(lambda m, f: MultiKrum(num_malicious_nodes=f, num_nodes_to_select=m - f - 2), None),
    "FedAvg": Case(lambda m, f: FedAvg(), None),
    _FILTERED: _robust(L1Sign()),
    _RECIPES["L1Sign"]: _robust(L1Sign(), filters=RECIPE["filters"], length_screen=RECIPE["length_screen"]),
    _RECIPES["Drive"]: _robust(Drive(), filters=RECIPE["filters"], length_screen=RECIPE["length_screen"]),
    _RULE: _robust(L1Sign(), filters="", rule="trimmed-mean", length_screen=None),
    "trimmed mean alone, Drive": _robust(Drive(), filters="", rule="trimmed-mean", length_screen=None),
    "SignMajorityVote, Sign": Case(lambda m, f: SignMajorityVote(), Sign()),
    "NormThreshold, TopK(1 %)": _threshold(TopK(ratio=0.01)),
    "NormThreshold, QSGD(16)": _threshold(QSGD(levels=16)),
    "NormThreshold, Identity": _threshold(Identity()),
}


def measure(quick: bool) -> Section:
    """Measure all cases by turns."""
    shapes, nodes, repetitions = (SMALL, 40, 2) if quick else (MLP, 200, 5)
    byzantine = nodes // 10
    d = sum(int(np.prod(shape)) for shape in shapes)
    found: dict[str, list[Measurement]] = {name: [] for name in CASES}
    with ExitStack() as stack:
        arguments: dict[str, Any] = {"nodes": nodes, "byzantine": byzantine, "shapes": shapes}
        workers = {name: stack.enter_context(Worker("benchmarks.aggregate:prepare", case=name, **arguments)) for name in CASES}
        for worker in workers.values():
            worker.measure()  # warm up
        for _ in range(repetitions):
            for name, worker in workers.items():
                found[name].append(worker.measure())

    seconds = {name: statistics.median(m.seconds for m in ms) for name, ms in found.items()}
    extra = {name: max(1.0, statistics.median(m.extra_bytes for m in ms)) for name, ms in found.items()}
    rows = [
        (
            name,
            megabytes(ms[0].value),
            spread([m.seconds for m in ms]),
            times(seconds[_REFERENCE] / seconds[name]),
            megabytes(extra[name]),
            times(extra[_REFERENCE] / extra[name]),
        )
        for name, ms in found.items()
    ]
    targets = []
    wanted = ((_OURS, 60, 20), (_FILTERED, 10, 10), *((name, 12, 20) for name in _RECIPES.values()), (_RULE, 25, 20))
    for name, speed, memory in wanted:
        faster, leaner = seconds[_REFERENCE] / seconds[name], extra[_REFERENCE] / extra[name]
        targets += [
            Target(f"{name}: times faster than {_REFERENCE}", f"{speed}x", times(faster), faster >= speed),
            Target(f"{name}: times less extra memory than {_REFERENCE}", f"{memory}x", times(leaner), leaner >= memory),
        ]
    columns = (
        "strategy",
        "all replies",
        "time: median (range)",
        f"{_REFERENCE} / this",
        "extra memory",
        f"{_REFERENCE} / this",
    )
    return Section(
        "Aggregation on the server",
        f"One `aggregate_train` on the replies of {nodes} nodes, d = {d:,} (float32), {byzantine} of them ten times too "
        f"large; {byzantine + 2} are trimmed. All cases decode the same updates, packed or dense. Median of {repetitions} "
        "repetitions, by turns, each case in a process of its own. Extra memory is the peak of the resident set above what "
        "it was with all replies loaded (VmHWM, reset through `/proc/self/clear_refs`).",
        [Table(f"{nodes} replies, d = {d:,}", columns, rows)],
        targets,
    )


def prepare(case: str, nodes: int, byzantine: int, shapes: list[list[int]]) -> Step:
    """Load the replies of a case, the same updates for every case."""
    return load(CASES[case], nodes, byzantine, shapes)


def load(chosen: Case, nodes: int, byzantine: int, shapes: list[list[int]]) -> Step:
    """Load the replies to a strategy."""
    strategy = chosen.strategy(nodes, byzantine)
    rng = np.random.default_rng(0)
    model = {f"w{i}": torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for i, shape in enumerate(shapes)}
    arrays = wire.to_arrays(model)
    with quiet_flower():
        asked = list(strategy.configure_train(1, arrays, ConfigRecord(), InProcessGrid(ClientApp(), nodes)))
    replies = [_reply(message, i, i < byzantine, model, chosen.compressor) for i, message in enumerate(asked)]
    size = sum(len(array.data) for m in replies for record in m.content.array_records.values() for array in record.values())

    def arm() -> Callable[[], int]:
        # FedTrimmedAvg takes the arrays out of the replies that it is given.
        own = [_shallow(message) for message in replies]

        def timed() -> int:
            with quiet_flower():
                result, _ = strategy.aggregate_train(1, own)
            if result is None:
                raise RuntimeError(f"{type(strategy).__name__} aggregated nothing")
            return size

        return timed

    return arm


def _reply(asked: Message, node: int, lies: bool, model: dict[str, Tensor], compressor: Compressor | None) -> Message:
    rng = np.random.default_rng([1, node])
    layout = Layout.of(model)
    x = torch.from_numpy(rng.standard_normal(layout.dim, dtype=np.float32)).mul_(10.0 if lies else 1.0)
    if compressor is None:
        arrays = wire.to_arrays(layout.split(layout.flatten(model) - x))
    else:
        q = compressor.for_round(1)
        arrays = ArrayRecord({wire.MODEL_ARRAY: wire.pack(q.compress(x, rng), q)})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=asked)


def _shallow(message: Message) -> Message:
    copied = copy.copy(message)
    copied.content = private_copy(message.content)
    return copied
