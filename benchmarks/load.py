"""A round of one server process under load: up to 1,000 nodes that reply with one bit a coordinate."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.aggregate import MLP, SMALL
from benchmarks.report import Section, Table, Target, megabytes, milliseconds, spread, times
from benchmarks.worker import Measurement, Step, Worker, status
from flwr_robustcomp import L1Sign, NormThreshold, wire
from flwr_robustcomp.compressors import Payload
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.simulations.runs.run import quiet_flower

__all__ = ["measure", "prepare"]

_TRIM = 0.11


def measure(quick: bool) -> Section:
    """Measure rounds of a growing number of nodes, by turns."""
    shapes, sizes, repetitions = (SMALL, (10, 20, 40), 2) if quick else (MLP, (125, 250, 500, 1000), 5)
    d = sum(math.prod(shape) for shape in shapes)
    found: dict[int, list[Measurement]] = {nodes: [] for nodes in sizes}
    with ExitStack() as stack:
        workers = {n: stack.enter_context(Worker("benchmarks.load:prepare", nodes=n, shapes=shapes)) for n in sizes}
        for worker in workers.values():
            worker.measure()  # warm up
        for _ in range(repetitions):
            for nodes, worker in workers.items():
                found[nodes].append(worker.measure())

    seconds = {nodes: statistics.median(m.seconds for m in ms) for nodes, ms in found.items()}
    peak = {nodes: statistics.median(m.value["peak"] for m in ms) for nodes, ms in found.items()}
    extra = {nodes: statistics.median(m.extra_bytes for m in ms) for nodes, ms in found.items()}
    rows = [
        (
            f"{nodes:,}",
            megabytes(ms[0].value["replies"]),
            spread([m.seconds for m in ms]),
            milliseconds(statistics.median(m.value["asking"] for m in ms)),
            milliseconds(seconds[nodes] / nodes),
            megabytes(peak[nodes]),
            megabytes(extra[nodes]),
        )
        for nodes, ms in found.items()
    ]
    columns = ("nodes", "all replies", "a round: median (range)", "of it asking", "a node", "peak", "of it the round's own")
    few, some, many = min(sizes), sorted(sizes)[-2], max(sizes)
    growth = many / few
    slower = seconds[many] / seconds[few]
    # What is there without any reply (interpreter, torch, Flower, the model) does not grow, so slopes are compared.
    early, late = (peak[some] - peak[few]) / (some - few), (peak[many] - peak[some]) / (many - some)
    reply = found[many][0].value["replies"] / many
    return Section(
        "A thousand nodes in one server process",
        f"One round of `NormThreshold`, L1Sign, trim {_TRIM:.0%}, d = {d:,} (float32): `configure_train` makes the messages, "
        "replies of random bits stand ready, `aggregate_train` screens, filters and sums them. Median of "
        f"{repetitions} repetitions, by turns, each number of nodes in a process of its own. Peak is the largest resident set "
        "of the whole process during the round (VmHWM, reset through `/proc/self/clear_refs`), with replies, torch and Flower.",
        [Table(f"A round, d = {d:,}", columns, rows)],
        [
            Target(f"{many:,} nodes: times as slow as {few:,}", f"{1.25 * growth:g}x", times(slower), slower <= 1.25 * growth),
            Target(f"a node's memory: beyond {some:,} / up to {some:,}", "1.25x", times(late / early), late <= 1.25 * early),
            Target(f"{many:,} nodes: peak memory", "24 GiB", megabytes(peak[many]), peak[many] <= 24 * 2**30),
            Target(f"{many:,} nodes: a round", "60 s", milliseconds(seconds[many]), seconds[many] <= 60),
        ],
        [
            f"Linear growth from {few:,} to {many:,} nodes is {growth:g}x; the targets allow a quarter more.",
            f"One more node takes {late / 1e3:,.0f} kB at the peak, {times(late / reply)} its reply: the reply itself, and the "
            "payload that was read from it.",
        ],
    )


def prepare(nodes: int, shapes: list[list[int]]) -> Step:
    """Make a model and, once, what nodes would reply to it; every repetition is a round of its own."""
    rng = np.random.default_rng(0)
    model = {f"w{i}": torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for i, shape in enumerate(shapes)}
    arrays = wire.to_arrays(model)
    d = sum(tensor.numel() for tensor in model.values())
    grid = InProcessGrid(ClientApp(), nodes)
    strategy = NormThreshold(compressor=L1Sign(), trim=_TRIM, fraction_evaluate=0.0)
    with quiet_flower():
        asked = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
    replies = [_reply(message, d, rng) for message in asked]
    size = sum(len(array.data) for m in replies for record in m.content.array_records.values() for array in record.values())

    def arm() -> Callable[[], dict[str, Any]]:
        def timed() -> dict[str, Any]:
            with quiet_flower():
                started = time.perf_counter()
                list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
                asking = time.perf_counter() - started
                result, _ = strategy.aggregate_train(1, replies)
            if result is None or len(strategy.reports[-1].kept) != nodes - math.ceil(_TRIM * nodes):
                raise RuntimeError("the round did not keep whom it should")
            return {"replies": size, "asking": asking, "peak": status("VmHWM")}

        return timed

    return arm


def _reply(asked: Message, d: int, rng: np.random.Generator) -> Message:
    """Return a reply of random signs and a random scale: what an honest node sends, without what it takes to learn it."""
    body = np.packbits(rng.integers(0, 2, d, dtype=np.bool_), bitorder="little").tobytes()
    scale = float(np.float32(rng.uniform(0.5, 1.5)))
    array = wire.pack(Payload((d,), torch.float32, (scale,), body), L1Sign())
    arrays, metrics = ArrayRecord({wire.MODEL_ARRAY: array}), MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=asked)
