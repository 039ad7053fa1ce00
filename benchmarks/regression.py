"""The paper's regression on the in-process grid, as a whole Flower app, beside a bare numpy loop; and where the time goes."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.prototype import Setting, run_prototype
from benchmarks.report import Section, Table, milliseconds, spread, times
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.runs.run import quiet_flower

__all__ = ["measure"]


def measure(quick: bool) -> Section:
    """Measure both by turns, then ours once more with a clock at every station."""
    setting = Setting(nodes=40, byzantine=4, trim=6, samples=800) if quick else Setting()
    rounds, repetitions = (10, 1) if quick else (100, 5)
    ours: list[float] = []
    bare: list[float] = []
    final: tuple[float, float] = (0.0, 0.0)
    with quiet_flower():
        scenario = _scenario(setting, rounds)
        run_scenario(scenario)  # warm up; draws the data
        for _ in range(repetitions):
            seconds, error = _run(scenario)
            ours += seconds
            seconds, errors = run_prototype(setting, rounds)
            bare += seconds
            final = error, errors[-1]
        with _clocks() as clocks:
            clocked = statistics.fmean(_run(scenario)[0])
    mine, plain = statistics.median(ours), statistics.median(bare)
    rows = [("InProcessGrid", spread(ours), times(mine / plain)), ("numpy prototype", spread(bare), "1x")]
    stations = _stations(clocks, rounds, clocked)
    return Section(
        "The paper's regression in one process",
        f"{setting.nodes} nodes, d = {setting.dimension:,}, {setting.samples} rows, {setting.byzantine} Byzantine nodes with "
        f"Gaussian noise, trim {setting.trim}, scaled signs, float64. The prototype computes all gradients by one batched "
        "matrix product and sends no messages. "
        f"{repetitions} runs of {rounds} rounds each, by turns; ||w - w*|| ends at {final[0]:.2g} and {final[1]:.2g}.",
        [
            Table("A round", ("engine", "a round: median (range)", "times the prototype's"), rows),
            Table(
                "Where a round of InProcessGrid goes",
                ("station", "mean of a round", "share"),
                [(name, milliseconds(s), f"{s / clocked:.0%}") for name, s in stations.items()],
            ),
        ],
        notes=["The second table comes from a run of its own, with a clock at each station, and is a little slower."],
    )


def _scenario(s: Setting, rounds: int) -> Scenario:
    return Scenario.parse(
        {
            "problem": {"name": "least-squares", "samples": s.samples, "dimension": s.dimension},
            "nodes": s.nodes,
            "byzantine": s.byzantine,
            "attack": {"name": "gaussian-noise", "variance": s.variance},
            "compressor": {"name": "l1-sign"},
            "strategy": {"name": "norm-threshold", "trim": s.trim, "step_size": s.step_size},
            "rounds": rounds,
        }
    )


def _run(scenario: Scenario) -> tuple[list[float], float]:
    """Return the seconds of each round, and the last error."""
    stamps: list[float] = []
    records = run_scenario(scenario, observe=lambda record: stamps.append(time.perf_counter()))
    return [after - before for before, after in itertools.pairwise(stamps)], float(records[-1]["error"])


def _stations(clocks: dict[str, float], rounds: int, clocked: float) -> dict[str, float]:
    """Return the seconds of a round at each station; one inside another counts once."""
    s = {name: total / rounds for name, total in clocks.items()}
    inside = s["gradients"] + s["attack"] + s["compression"] + s["packing"] + s["replies"]
    stations = {
        "gradients": s["gradients"],
        "attack (random numbers)": s["attack"],
        "compression": s["compression"],
        "reply messages": s["packing"] + s["replies"],
        "rest of the clients": s["clients"] - inside,
        "server messages": s["asking"] + s["pushing"] - s["clients"],
        "screening": s["screening"],
        "sum": s["sum"],
        "rest of aggregate_train": s["aggregating"] - s["screening"] - s["sum"],
        "evaluation": s["evaluation"],
    }
    return {**stations, "everything else": clocked - sum(stations.values())}


@contextlib.contextmanager
def _clocks() -> Iterator[dict[str, float]]:
    """Put a clock around the functions of a round for a while; yields the seconds spent in each."""
    from flwr_robustcomp import wire
    from flwr_robustcomp.clients import CompressionMod
    from flwr_robustcomp.clients.gaussian_noise import GaussianNoise
    from flwr_robustcomp.simulations import InProcessGrid, app
    from flwr_robustcomp.simulations.engines import batch
    from flwr_robustcomp.simulations.problems import LeastSquares
    from flwr_robustcomp.strategies import NormThreshold, Round
    from flwr_robustcomp.strategies.replies.receiver import UpdateReceiver

    places: dict[str, tuple[Any, str]] = {
        "gradients": (LeastSquares, "gradient"),
        "attack": (GaussianNoise, "transform"),
        "compression": (CompressionMod, "pack"),
        "packing": (wire, "packed_fields"),
        "replies": (batch, "quick_reply"),
        "clients": (app.client_app, "batch"),
        "asking": (NormThreshold, "configure_train"),
        "pushing": (InProcessGrid, "push_messages"),
        "screening": (UpdateReceiver, "screen"),
        "sum": (Round, "sum"),
        "aggregating": (NormThreshold, "aggregate_train"),
        "evaluation": (LeastSquares, "evaluate"),
    }
    spent: dict[str, float] = defaultdict(float)
    before = {name: getattr(*place) for name, place in places.items()}
    for name, (owner, attribute) in places.items():
        setattr(owner, attribute, _clocked(before[name], name, spent))
    try:
        yield spent
    finally:
        for name, (owner, attribute) in places.items():
            setattr(owner, attribute, before[name])


def _clocked(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - started

    return timed
