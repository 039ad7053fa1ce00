"""A round of figure 4: our engines beside the bare torch loop that computes the same gradients, and beside stock `flwr run`."""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import cores
from benchmarks.report import Section, Table, Target, milliseconds, spread, times
from benchmarks.run_config import run_config_toml
from benchmarks.stock_flower import Backend, flwr_run
from benchmarks.worker import Step, Worker

__all__ = ["measure", "prepare"]

_APP = Path(__file__).parent / "stock_app"
_HERE, _RAY, _BARE, _STOCK = "InProcessGrid", "RayGrid", "bare torch loop", "flwr run"
_TIMEOUT = 1800.0
_ADDED = "on the server: add it to the sum"


def measure(quick: bool) -> Section:
    """Measure engine after engine, by turns."""
    nodes, share, hidden, rounds = (10, 20, 16, 3) if quick else (200, 300, 1000, 5)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _write_images(Path(folder), nodes * share)
        config: dict[str, Any] = {
            "form": "regression",  # the bench app's word for "the scenario in the run config"
            "nodes": nodes,
            "byzantine": nodes // 10,
            "rounds": rounds,
            "attack.name": "shifted-labels",
            "compressor.name": "l1-sign",
            "compressor.plus_zero": True,
            "problem.name": "classification",
            "problem.data": "folder",
            "problem.data_dir": folder,
            "problem.hidden": hidden,
            "problem.eval_examples": 1000,
            "strategy.name": "norm-threshold",
            "strategy.trim": nodes // 10 + 2,
            "strategy.step_size": 1.0,
        }
        found: dict[str, list[float]] = {engine: [] for engine in (_BARE, _HERE, _RAY, _STOCK)}
        for engine in (_BARE, _HERE, _RAY, _STOCK, _BARE, _HERE, _RAY):
            found[engine] += _durations(engine, config, nodes)
    median = {engine: statistics.median(seconds) for engine, seconds in found.items()}
    rows = [(engine, spread(s), times(median[engine] / median[_BARE])) for engine, s in found.items()]
    best = min(median[_HERE], median[_RAY])
    above, below = best / median[_BARE], best / median[_STOCK]
    return Section(
        "A round of figure 4",
        f"{nodes} nodes of {share} synthetic images of MNIST's shape, 784-{hidden}-10 ReLUs, full-batch gradients, labels "
        f"9 - y on {nodes // 10} nodes, trim {nodes // 10 + 2}, scaled signs, loss on 1,000 images; {cores()} cores. The "
        "bare loop computes the same gradients node by node and throws them away. From the end of a round to the end of the "
        "next; the first does not count.",
        [
            Table("A round", ("engine", "a round: median (range)", "times the bare loop's"), rows),
            Table("One node's share of it, one thread", ("step", "median", "of the bare gradient"), _steps(share, hidden)),
        ],
        [
            Target("our faster engine, against the bare loop", "at most 1.15x", times(above), above <= 1.15),
            Target("our faster engine, against flwr run", "at most 0.5x", times(below), below <= 0.5),
        ],
        [
            "Our engines also compress, send, screen, sum and evaluate; the bare loop does none of it.",
            "The second table has what no engine can leave out: passes over a gradient's entries, and the server's over bits.",
        ],
    )


def _write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, size in (("train", count), ("test", 1000)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 10
    np.savez(folder / "images.npz", **arrays)


def _durations(engine: str, config: dict[str, Any], nodes: int) -> list[float]:
    """Return the seconds of every round but the first."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "stamps.json"
        config = {**config, "stamps": str(path)}
        if engine == _STOCK:
            backend = Backend(client_num_cpus=1, init_num_cpus=cores())
            app = _declaring(config, Path(folder) / "app")
            flwr_run(app, num_supernodes=nodes, run_config=config, timeout=_TIMEOUT, backend=backend).check()
        elif engine == _BARE:
            with Worker("benchmarks.figure4:prepare", config=config) as worker:
                worker.measure()
        else:
            with Worker("benchmarks.rounds:prepare", engine=engine, nodes=nodes, config=config) as worker:
                worker.measure()
        stamps: list[float] = json.loads(path.read_text(encoding="utf-8"))
    return [after - before for before, after in itertools.pairwise(stamps)][1:]


def _declaring(config: dict[str, Any], app: Path) -> Path:
    """Copy the bench app and declare the scenario's keys: `flwr run` refuses to override others."""
    shutil.copytree(_APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    path = app / "pyproject.toml"
    declared = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    new = {k: v for k, v in config.items() if k.split(".")[0] not in declared}
    path.write_text(path.read_text(encoding="utf-8") + run_config_toml(new), encoding="utf-8")
    return app


def _steps(share: int, hidden: int, nodes: int = 30) -> list[tuple[str, ...]]:
    """Measure what is done with one node's gradient, step after step, while it is in the cache."""
    import torch

    from flwr_robustcomp import L1Sign
    from flwr_robustcomp.compressors.sums import squares
    from flwr_robustcomp.layout import Layout

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (nodes, share, 784), dtype=np.uint8))
    y = torch.arange(share) % 10
    shapes = {"w1": (hidden, 784), "b1": (hidden,), "w2": (10, hidden), "b2": (10,)}
    model = {name: torch.from_numpy(0.03 * rng.standard_normal(shape, np.float32)) for name, shape in shapes.items()}
    layout, compressor = Layout.of(model), L1Sign()
    row, total = torch.empty(1, layout.dim), torch.zeros(layout.dim)
    laps: dict[str, list[float]] = {}

    def lap(name: str, run: Callable[..., Any], *given: Any) -> Any:
        started = time.perf_counter()
        found = run(*given)
        laps.setdefault(name, []).append(time.perf_counter() - started)
        return found

    payloads = []
    for own in x:
        found = lap("the gradient, as in the bare loop", _gradient, own, y, list(model.values()))
        lap("write it as one row", layout.flatten, dict(zip(model, found, strict=True)), row[0])
        payloads += lap("compress: mean magnitude and sign bits", compressor.compress_rows, row, [None])
        lap("measure delta: its norm", squares, row.numpy())
    for _ in range(3):
        lap(_ADDED, compressor.accumulate, total, payloads, [1.0] * nodes)
    torch.set_num_threads(threads)
    median = {name: statistics.median(seconds) / (nodes if name == _ADDED else 1) for name, seconds in laps.items()}
    whole = next(iter(median.values()))
    return [(name, milliseconds(seconds), f"{seconds / whole:.1%}") for name, seconds in median.items()]


def _gradient(own: Any, truth: Any, weights: list[Any]) -> Any:
    import torch
    from torch.nn import functional

    w1, b1, w2, b2 = leaves = [w.requires_grad_() for w in weights]
    hidden = functional.relu(functional.linear(own.float() / 255, w1, b1))
    return torch.autograd.grad(functional.cross_entropy(functional.linear(hidden, w2, b2), truth), leaves)


def prepare(config: dict[str, Any]) -> Step:
    """Compute every node's gradient one after the other, round after round, with all of torch's threads."""
    import torch

    from flwr_robustcomp.simulations.scenario import Scenario
    from flwr_robustcomp.simulations.scenario.setup import make_problem

    problem = make_problem(Scenario.from_run_config(config))
    images = np.load(Path(config["problem.data_dir"]) / "images.npz")
    nodes, weights = int(config["nodes"]), list(problem.initial().values())
    x = torch.from_numpy(images["x_train"]).reshape(nodes, -1, 784)
    y = torch.from_numpy(images["y_train"]).reshape(nodes, -1)

    def timed() -> None:
        stamps = [time.perf_counter()]
        for _ in range(int(config["rounds"])):
            for own, truth in zip(x, y, strict=True):
                _gradient(own, truth, weights)
            stamps.append(time.perf_counter())
        Path(config["stamps"]).write_text(json.dumps(stamps), encoding="utf-8")

    def arm() -> Callable[[], None]:
        return timed

    return arm
