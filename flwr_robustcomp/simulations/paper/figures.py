"""The paper's figures 1 to 3, on its own regression problem (section 7)."""

from __future__ import annotations

import importlib.metadata
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.comparison.plots import Panel, draw
from flwr_robustcomp.simulations.paper.step_size import best_step, inverse_smoothness
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.runs.sweep import run_cells
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = ["FIGURES", "Curve", "Figure", "reproduce"]

NODES, SAMPLES, DIMENSION, VARIANCE = 200, 4000, 1000, 10.0
"""m, N, d and the variance of the Byzantine noise, as in section 7."""

PAIRS = ((5, 7), (10, 12), (20, 22))
"""Byzantine nodes and trimmed nodes, as in section 7."""

_PILOT_SEED_OFFSET = 1_000_000
"""Pilots never share a seed with the runs of a figure."""

THRESHOLD, VANILLA, VOTE = "norm-threshold", "vanilla", "majority-vote"


@dataclass(frozen=True)
class Curve:
    """One curve of a figure: an algorithm in a setting."""

    label: str
    strategy: str
    compressor: str
    error_feedback: bool
    byzantine: int
    trim: int


@dataclass(frozen=True)
class Figure:
    """What a figure shows.

    Attributes
    ----------
    title : str
        Over the picture.
    curves : tuple of Curve
        In the order of the legend.
    verdict : callable
        From the mean final error of each curve to the sentence that says what the figure shows.
    """

    title: str
    curves: tuple[Curve, ...]
    verdict: Callable[[dict[Curve, float]], str]


def _gradient(error_feedback: bool) -> tuple[Curve, ...]:
    """Return the curves of an algorithm with and without threshold, and its run without Byzantine nodes."""
    name = "error feedback" if error_feedback else "compressed GD"
    ours = "thresholded error feedback" if error_feedback else "Algorithm 1"
    clean = Curve(f"{name}, no Byzantine", VANILLA, "l1-sign", error_feedback, 0, 0)
    robust = tuple(Curve(ours, THRESHOLD, "l1-sign", error_feedback, b, t) for b, t in PAIRS)
    vanilla = tuple(Curve(f"{name}, no threshold", VANILLA, "l1-sign", error_feedback, b, 0) for b, _ in PAIRS)
    return clean, *robust, *vanilla


def _verdict_1(errors: dict[Curve, float]) -> str:
    ours, vanilla = _at(errors, THRESHOLD, 20), _at(errors, VANILLA, 20)
    return (
        f"Figure 1: with 20 Byzantine nodes, Algorithm 1 reaches {ours:.1e}; "
        f"without the threshold the error stalls at {vanilla:.2g}, {vanilla / ours:,.0f} times higher."
    )


def _verdict_2(errors: dict[Curve, float]) -> str:
    ours, vote = _at(errors, THRESHOLD, 20), _at(errors, VOTE, 20)
    return (
        f"Figure 2: with 20 Byzantine nodes, Algorithm 1 reaches {ours:.1e}; "
        f"signSGD with majority vote at its best constant step ends at {vote:.2g}, {vote / ours:,.0f} times higher."
    )


def _verdict_3(errors: dict[Curve, float]) -> str:
    clean, ours, vanilla = _at(errors, VANILLA, 0), _at(errors, THRESHOLD, 20), _at(errors, VANILLA, 20)
    return (
        f"Figure 3: thresholded error feedback under 20 Byzantine nodes ends at {ours:.2g}, {ours / clean:.2f} times "
        f"the {clean:.2g} without any; without it the error stalls at {vanilla:.2g}, {vanilla / clean:,.0f} times higher."
    )


FIGURES: dict[str, Figure] = {
    "figure1": Figure("Algorithm 1 with and without thresholding", _gradient(error_feedback=False), _verdict_1),
    "figure2": Figure(
        "Algorithm 1 and signSGD with majority vote",
        (
            *(c for c in _gradient(error_feedback=False) if c.strategy == THRESHOLD),
            *(Curve("signSGD, majority vote", VOTE, "sign", False, b, 0) for b, _ in PAIRS),
        ),
        _verdict_2,
    ),
    "figure3": Figure("Error feedback with and without thresholding", _gradient(error_feedback=True), _verdict_3),
}
"""The figures by the name that the command line uses."""

RULE = (
    "gradient methods: gamma = 1/L_F with L_F = (1 + sqrt(d/N))^2, the same with and without threshold; majority vote: "
    "the constant step with the smallest error after the last round, on a pilot seed outside the figure's, under the "
    "figure's largest number of Byzantine nodes"
)


def reproduce(
    name: str,
    out: Path,
    *,
    runs: int = 20,
    rounds: int = 200,
    seed: int = 0,
    jobs: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Reproduce a figure as ``NAME.png`` and ``NAME.json``.

    Parameters
    ----------
    name : str
        A key of `FIGURES`.
    out : Path
        Folder; rounds that its record already holds, from this or another figure, are not run again.
    runs : int
        Seeds ``seed`` to ``seed + runs - 1``.
    rounds : int
        T.
    seed : int
        Of the first run.
    jobs : int
        Cells at a time.
    advance : callable
        Called with (rounds just finished, rounds in all).

    Returns
    -------
    str
        One sentence: what the figure shows.
    """
    require(name in FIGURES, "figure", name, f"one of {', '.join(FIGURES)}")
    require(runs >= 1, "runs", runs, "at least 1")
    require(rounds >= 1, "rounds", rounds, "at least 1")
    require(seed >= 0, "seed", seed, "at least 0")
    figure = FIGURES[name]
    seeds = range(seed, seed + runs)
    total = len(figure.curves) * runs * rounds

    def run(scenarios: Sequence[Scenario]) -> list[list[RoundRecord]]:
        curves = run_cells(scenarios, out, jobs=jobs, advance=lambda done: advance(done, total))
        return [curves[scenario.key] for scenario in scenarios]

    steps = {"gradient": inverse_smoothness(SAMPLES, DIMENSION)}
    pilots: dict[str, float] = {}
    if any(curve.strategy == VOTE for curve in figure.curves):
        hardest = max(figure.curves, key=lambda curve: (curve.strategy == VOTE, curve.byzantine))
        pilot_seed = seed + _PILOT_SEED_OFFSET
        total += 12 * rounds  # best_step runs ten coarse and two fine pilots
        steps["vote"], pilots = best_step(lambda trial: run([_scenario(hardest, s, rounds, pilot_seed) for s in trial]))

    records = run([_scenario(curve, _step(curve, steps), rounds, s) for curve in figure.curves for s in seeds])
    errors = {
        curve: [[r["error"] for r in one[1:]] for one in records[i * runs : (i + 1) * runs]]
        for i, curve in enumerate(figure.curves)
    }
    settings = {
        "nodes": NODES,
        "samples": SAMPLES,
        "dimension": DIMENSION,
        "noise_variance": VARIANCE,
        "rounds": rounds,
        "runs": runs,
        "seeds": list(seeds),
        "error": "||w_t - w*||_2 after each round, t = 1 ... rounds",
        "step_size_rule": RULE,
        "step_sizes": steps,
        "majority_vote_pilots": pilots,
        "versions": {p: importlib.metadata.version(p) for p in ("flwr", "flwr-robustcomp", "numpy", "ray", "torch")},
    }
    document = {
        "figure": name,
        "settings": settings,
        "curves": [{**_described(c), "step_size": _step(c, steps), "runs": values} for c, values in errors.items()],
    }
    (out / f"{name}.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    title = f"{figure.title}: {NODES} nodes, scaled sign, mean of {runs} run{'s' * (runs > 1)}"
    draw(out / f"{name}.png", title, _panels(errors), metric="error", first_round=1)
    return figure.verdict({c: statistics.fmean(_number(run[-1]) for run in values) for c, values in errors.items()})


def _described(curve: Curve) -> dict[str, Any]:
    """Return a curve as the JSON names it: a label of its own, and the strategy that runs it."""
    setting = f" ({curve.byzantine} Byzantine, {curve.trim} trimmed)" if curve.byzantine else ""
    strategy = VOTE if curve.strategy == VOTE else THRESHOLD
    return {**asdict(curve), "label": curve.label + setting, "strategy": strategy}


def _scenario(curve: Curve, step_size: float, rounds: int, seed: int) -> Scenario:
    strategy: dict[str, Any] = {"name": THRESHOLD, "trim": curve.trim, "step_size": step_size}
    if curve.strategy == VOTE:
        strategy = {"name": VOTE, "step_size": step_size}
    return Scenario.parse(
        {
            "problem": {"name": "least-squares", "samples": SAMPLES, "dimension": DIMENSION},
            "nodes": NODES,
            "byzantine": curve.byzantine,
            "attack": {"name": "gaussian-noise", "variance": VARIANCE},
            "compressor": curve.compressor,
            "error_feedback": curve.error_feedback,
            "strategy": strategy,
            "rounds": rounds,
            "seed": seed,
        }
    )


def _step(curve: Curve, steps: dict[str, float]) -> float:
    return steps["vote" if curve.strategy == VOTE else "gradient"]


def _panels(errors: dict[Curve, list[list[float | None]]]) -> list[Panel]:
    """Return one panel for each Byzantine count; the run without Byzantine nodes stands in all of them."""
    panels: list[Panel] = []
    for byzantine, trim in PAIRS:
        lines = [
            (curve.label, [[_number(value) for value in run] for run in runs])
            for curve, runs in errors.items()
            if curve.byzantine in (0, byzantine)
        ]
        panels.append((f"{byzantine} Byzantine, {trim} trimmed", lines))
    return panels


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _at(errors: dict[Curve, float], strategy: str, byzantine: int) -> float:
    return next(error for curve, error in errors.items() if (curve.strategy, curve.byzantine) == (strategy, byzantine))
