"""One round of nodes without work: our grids against stock `flwr run`, with the same unchanged app."""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.aggregate import MLP, SMALL
from benchmarks.machine import cores
from benchmarks.report import Section, Table, Target, spread, times
from benchmarks.stock_flower import Backend, flwr_run
from benchmarks.worker import Step, Worker

__all__ = ["measure", "prepare"]

_APP = Path(__file__).parent / "stock_app"
_RAY, _STOCK, _HERE = "RayGrid", "flwr run", "InProcessGrid"
_ORDER = (_RAY, _STOCK, _RAY, _HERE)
_FORMS = {"echo": "FedAvg, arrays echoed", "fresh": "FedAvg, bytes of each node's own", "compressed": "NormThreshold, L1Sign"}
_SCENARIO = {"regression": "the paper's regression, NormThreshold, L1Sign"}  # its d is 1,000
_TIMEOUT = 600.0

Shapes = tuple[tuple[int, ...], ...]


def measure(quick: bool) -> Section:
    """Measure every form at both sizes, engine after engine."""
    nodes = 20 if quick else 200
    sizes: list[tuple[Shapes, int, int, float]] = [  # shapes, rounds on our grids, rounds on stock, target
        (((1000,),), 31, 11, 25.0),
        (SMALL if quick else MLP, 7, 5, 12.0),
    ]
    tables, targets = [], []
    for shapes, ours, stock, wanted in sizes:
        d = sum(int(np.prod(shape)) for shape in shapes)
        rows = []
        for form, label in (_FORMS | _SCENARIO if d == 1000 else _FORMS).items():
            trim = nodes // 10 + 2
            config: dict[str, Any] = {"form": form, "shapes": json.dumps(shapes), "nodes": nodes, "trim": trim}
            if form in _SCENARIO:
                config |= {"strategy.name": "norm-threshold", "strategy.trim": trim, "strategy.step_size": 0.4}
            found: dict[str, list[float]] = {engine: [] for engine in _ORDER}
            for engine in _ORDER:
                rounds = (stock if engine == _STOCK else ours) if not quick else 3
                found[engine] += _durations(engine, {**config, "rounds": rounds}, nodes)
            median = {engine: statistics.median(seconds) for engine, seconds in found.items()}
            rows += [(f"{label}: {e}", spread(s), times(median[_STOCK] / median[e])) for e, s in found.items()]
            ratio = median[_STOCK] / median[_RAY]
            targets.append(Target(f"d = {d:,}, {label}: {_RAY}", f"{wanted:g}x", times(ratio), ratio >= wanted))
        tables.append(Table(f"d = {d:,}", ("form and engine", "a round: median (range)", "faster than stock"), rows))
    return Section(
        "A round of the simulation",
        f"{nodes} nodes whose training replies without computing anything, {cores()} cores for every engine; the same "
        "ServerApp and ClientApp, unchanged, on each. From the end of a round to the end of the next; start-up and the first "
        f"round do not count. Engines take turns: {', '.join(_ORDER)}.",
        tables,
        targets,
        [
            "Echoed arrays: all nodes of a RayGrid worker reply with one and the same bytes object, which travels once. After "
            "real training every node has bytes of its own; the second form shows what that costs.",
            "NormThreshold, L1Sign: decoding the model, compressing 200 updates and aggregating them is part of the round and "
            "the same work on every engine.",
            "The paper's regression: the package's own scenario apps, gradients of 20 rows a node included. Our grids hand a "
            "worker's nodes to the app as one batch (ADR 5), which stock Flower cannot.",
        ],
    )


def _durations(engine: str, config: dict[str, Any], nodes: int) -> list[float]:
    """Return the seconds of every round but the first."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = {**config, "stamps": str(Path(folder) / "stamps.json")}
        if engine == _STOCK:
            # A Flower of its own for each run: one that stayed would take time from the others.
            backend = Backend(client_num_cpus=1, init_num_cpus=cores())
            flwr_run(_APP, num_supernodes=nodes, run_config=config, timeout=_TIMEOUT, backend=backend).check()
        else:
            with Worker("benchmarks.rounds:prepare", engine=engine, nodes=nodes, config=config) as worker:
                worker.measure()
        stamps: list[float] = json.loads(Path(config["stamps"]).read_text(encoding="utf-8"))
    return [after - before for before, after in itertools.pairwise(stamps)][1:]


def prepare(engine: str, nodes: int, config: dict[str, Any]) -> Step:
    """Run the whole app once on one of our grids; the app itself writes down when its rounds ended."""
    from benchmarks.stock_app.bench_app import server_app
    from flwr_robustcomp.simulations import InProcessGrid, LocalGrid, RayGrid, run_server_app
    from flwr_robustcomp.simulations.runs.run import quiet_flower

    grids: dict[str, type[RayGrid] | type[InProcessGrid]] = {_RAY: RayGrid, _HERE: InProcessGrid}

    def timed() -> None:
        grid: LocalGrid = grids[engine]("benchmarks.stock_app.bench_app:client_app", nodes, run_config=config)
        with quiet_flower(), grid:
            run_server_app(server_app, grid)

    def arm() -> Callable[[], None]:
        return timed

    return arm
