"""The paper's figure 4: its network on MNIST, with wrong labels on the Byzantine nodes (section 7)."""

from __future__ import annotations

import importlib.metadata
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.comparison.plots import Line, Panel, draw
from flwr_robustcomp.simulations.paper.figures import NODES, PAIRS
from flwr_robustcomp.simulations.paper.step_size import largest_descending_step
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.runs.sweep import run_cells
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions

__all__ = ["PANELS", "NetworkCurve", "NetworkPanel", "reproduce_figure4"]

HIDDEN, EVALUATED = 1000, 5000
"""The network's width, as in section 7; the training images that the loss is measured on."""

STEPS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""The constant steps that are tried."""

RULE = (
    "one constant gamma for every curve with error feedback and one for every curve without; the paper gives none. Each is the "
    f"largest of {', '.join(f'{s:g}' for s in STEPS)} with which the loss of the run without Byzantine nodes, first seed, "
    "falls in every round"
)


@dataclass(frozen=True)
class NetworkPanel:
    """A panel of the figure: what the Byzantine nodes do to their labels, and whether clients keep residuals."""

    title: str
    attack: str
    error_feedback: bool


PANELS = (
    NetworkPanel("random labels", "random-labels", error_feedback=False),
    NetworkPanel("labels 9 - y", "shifted-labels", error_feedback=False),
    NetworkPanel("labels 9 - y, error feedback", "shifted-labels", error_feedback=True),
)
"""(a), (b) and (c)."""


@dataclass(frozen=True)
class NetworkCurve:
    """One curve: an algorithm against some Byzantine nodes."""

    label: str
    attack: str
    error_feedback: bool
    byzantine: int
    trim: int


def reproduce_figure4(
    out: Path,
    *,
    data_dir: Path | None = None,
    runs: int = 1,
    rounds: int = 40,
    seed: int = 0,
    jobs: int = 1,
    pairs: Sequence[tuple[int, int]] = PAIRS,
    panels: Sequence[NetworkPanel] = PANELS,
    problem: dict[str, Any] | None = None,
    nodes: int = NODES,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Reproduce figure 4 as ``figure4.png`` and ``figure4.json``.

    Parameters
    ----------
    out : Path
        Folder; rounds that its record already holds are not run again.
    data_dir : Path, optional
        Folder of MNIST's files; by default flwr-datasets downloads them.
    runs, rounds, seed, jobs, advance
        As for `reproduce`. With one job torch's own threads share the cores; several jobs need 400 MB each.
    pairs : sequence of (int, int)
        Byzantine and trimmed nodes.
    panels : sequence of NetworkPanel
        What is drawn.
    problem : dict, optional
        Parameters of the problem that replace the figure's own.
    nodes : int
        m.

    Returns
    -------
    str
        A line for each panel: what it shows of the last pair.

    Raises
    ------
    ConfigurationError
        If there are no data: one line with both ways to get them.
    """
    require(runs >= 1, "runs", runs, "at least 1")
    require(rounds >= 1, "rounds", rounds, "at least 1")
    require(seed >= 0, "seed", seed, "at least 0")
    settings = {"name": "classification", "data": "mnist", "hidden": HIDDEN, "eval_examples": EVALUATED, **(problem or {})}
    if data_dir is not None:
        settings["data_dir"] = str(data_dir.expanduser().resolve())  # Ray's workers may be somewhere else
    by_panel = {panel: _curves(panel, pairs) for panel in panels}
    curves = list(dict.fromkeys(curve for drawn in by_panel.values() for curve in drawn))
    seeds = range(seed, seed + runs)
    clean = [curve for curve in curves if not curve.byzantine]
    total = (len(curves) * runs + len(clean) * len(STEPS)) * rounds

    def pilot(curve: NetworkCurve, step_size: float) -> list[RoundRecord]:
        one = _scenario(curve, settings, nodes, rounds, seed, step_size)
        return run_cells([one], out, advance=lambda done: advance(done, total))[one.key]

    gammas: dict[bool, float] = {}
    pilots: dict[bool, dict[str, list[float]]] = {}
    for curve in clean:
        gammas[curve.error_feedback], losses = largest_descending_step(partial(pilot, curve), STEPS)
        pilots[curve.error_feedback] = losses
        total -= (len(STEPS) - len(losses)) * rounds
    cells = {(c, s): _scenario(c, settings, nodes, rounds, s, gammas[c.error_feedback]) for c in curves for s in seeds}
    found = run_cells(cells.values(), out, jobs=jobs, advance=lambda done: advance(done, total))
    records = {curve: [found[cells[curve, s].key] for s in seeds] for curve in curves}
    document = {
        "figure": "figure4",
        "settings": {
            "nodes": nodes,
            "problem": {key: value for key, value in settings.items() if key != "data_dir"},
            "rounds": rounds,
            "runs": runs,
            "seeds": list(seeds),
            "loss": "mean cross-entropy on the evaluated training images, true labels, t = 0 ... rounds",
            "step_size_rule": RULE,
            "pilots": {_method(feedback): losses for feedback, losses in pilots.items()},
            "versions": {p: importlib.metadata.version(p) for p in ("flwr", "flwr-robustcomp", "numpy", "ray", "torch")},
        },
        "curves": [
            {
                **asdict(curve),
                "step_size": gammas[curve.error_feedback],
                "runs": [[record["loss"] for record in run] for run in runs_of],
                "accuracy": [[record["accuracy"] for record in run] for run in runs_of],
                "byzantine_nodes": [sorted(byzantine_partitions(cells[curve, s])) for s in seeds],
                "trimmed": [[record.get("trimmed", []) for record in run[1:]] for run in runs_of],
            }
            for curve, runs_of in records.items()
        ],
    }
    (out / "figure4.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    title = f"Network on {settings['data']}: {nodes} nodes, scaled sign, mean of {runs} run{'s' * (runs > 1)}"
    draw(out / "figure4.png", title, [_drawn(panel, drawn, records) for panel, drawn in by_panel.items()], metric="loss")
    return "\n".join(_verdict(panel, drawn, records, cells) for panel, drawn in by_panel.items())


def _curves(panel: NetworkPanel, pairs: Sequence[tuple[int, int]]) -> list[NetworkCurve]:
    """Return a panel's curves: without Byzantine nodes, then with and without threshold for each pair."""
    feedback = panel.error_feedback
    # The run without Byzantine nodes has no attack, so panels share it.
    curves = [NetworkCurve("no Byzantine", "shifted-labels", feedback, 0, 0)]
    for byzantine, trim in pairs:
        curves.append(NetworkCurve(f"{byzantine} Byzantine, {trim} trimmed", panel.attack, feedback, byzantine, trim))
        curves.append(NetworkCurve(f"{byzantine} Byzantine, no threshold", panel.attack, feedback, byzantine, 0))
    return curves


def _scenario(curve: NetworkCurve, problem: dict[str, Any], nodes: int, rounds: int, seed: int, step_size: float) -> Scenario:
    return Scenario.parse(
        {
            "problem": problem,
            "nodes": nodes,
            "byzantine": curve.byzantine,
            "attack": curve.attack,
            "compressor": {"name": "l1-sign", "plus_zero": True},  # the paper's own bit; MNIST has pixels that are always dark
            "error_feedback": curve.error_feedback,
            "strategy": {"name": "norm-threshold", "trim": curve.trim, "step_size": step_size},
            "rounds": rounds,
            "seed": seed,
        }
    )


def _method(error_feedback: bool) -> str:
    return "error feedback" if error_feedback else "no error feedback"


def _drawn(panel: NetworkPanel, curves: Sequence[NetworkCurve], records: dict[NetworkCurve, list[list[RoundRecord]]]) -> Panel:
    lines: list[Line] = [(c.label, [[_number(record["loss"]) for record in run] for run in records[c]]) for c in curves]
    return panel.title, lines


def _verdict(
    panel: NetworkPanel,
    curves: Sequence[NetworkCurve],
    records: dict[NetworkCurve, list[list[RoundRecord]]],
    cells: dict[tuple[NetworkCurve, int], Scenario],
) -> str:
    """Say how the last pair ended, and since when all of the Byzantine nodes were among the trimmed."""
    clean, robust, vanilla = curves[0], curves[-2], curves[-1]
    loss, accuracy = (
        {c: statistics.fmean(_number(run[-1][metric]) for run in records[c]) for c in (clean, robust, vanilla)}
        for metric in ("loss", "accuracy")
    )
    seeds = [s for c, s in cells if c == robust]
    pairs = zip(seeds, records[robust], strict=True)
    late = max(_all_caught_since(byzantine_partitions(cells[robust, s]), run) for s, run in pairs)
    caught = (
        f"from round {late:.0f} on all {robust.byzantine} are among the trimmed"
        if math.isfinite(late)
        else f"in the last round not all {robust.byzantine} are among the trimmed"
    )
    gamma = cells[robust, seeds[0]].strategy.params["step_size"]
    return (
        f"Figure 4 ({panel.title}), gamma {gamma:g}: with {robust.byzantine} Byzantine nodes and {robust.trim} trimmed, the "
        f"training loss ends at {loss[robust]:.3g} and test accuracy at {accuracy[robust]:.1%}; {loss[clean]:.3g} and "
        f"{accuracy[clean]:.1%} without Byzantine nodes, {loss[vanilla]:.3g} and {accuracy[vanilla]:.1%} without the "
        f"threshold; {caught}."
    )


def _all_caught_since(byzantine: frozenset[int], run: Sequence[RoundRecord]) -> float:
    """Return the first round from which on all Byzantine nodes were trimmed in every round; infinite if there is none."""
    missed = [record["round"] for record in run[1:] if not byzantine <= set(record.get("trimmed") or ())]
    since = max(missed, default=0) + 1
    return since if since < len(run) else math.inf


def _number(value: float | None) -> float:
    return math.inf if value is None else value
