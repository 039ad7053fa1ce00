"""The paper's figure 4: its network on MNIST, with wrong labels on the Byzantine nodes (section 7)."""

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
from flwr_robustcomp.simulations.figures import NODES, PAIRS
from flwr_robustcomp.simulations.plots import Line, Panel, draw
from flwr_robustcomp.simulations.record import RoundRecord
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.setup import byzantine_partitions
from flwr_robustcomp.simulations.sweep import run_cells

__all__ = ["PANELS", "NetworkCurve", "NetworkPanel", "reproduce_figure4"]

HIDDEN, STEP_SIZE, EVALUATED = 1000, 2.0, 5000
"""The network's width, as in section 7; gamma; the training images that the loss is measured on."""

RULE = (
    "one constant gamma for every curve, 2; the paper gives none. It was chosen on seed 0, without tuning between curves: at "
    "8 the run without Byzantine nodes overshoots within six rounds"
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
        One sentence: what the figure shows of the last pair on the last panel without error feedback.

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
    cells = {(c, s): _scenario(c, settings, nodes, rounds, s) for c in curves for s in seeds}
    total = len(cells) * rounds
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
            "step_size": STEP_SIZE,
            "versions": {p: importlib.metadata.version(p) for p in ("flwr", "flwr-robustcomp", "numpy", "ray", "torch")},
        },
        "curves": [
            {
                **asdict(curve),
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
    shown = next((panel for panel in reversed(panels) if not panel.error_feedback), panels[-1])
    return _verdict(shown, by_panel[shown], records, cells)


def _curves(panel: NetworkPanel, pairs: Sequence[tuple[int, int]]) -> list[NetworkCurve]:
    """Return a panel's curves: without Byzantine nodes, then with and without threshold for each pair."""
    feedback = panel.error_feedback
    # The run without Byzantine nodes has no attack, so panels share it.
    curves = [NetworkCurve("no Byzantine", "shifted-labels", feedback, 0, 0)]
    for byzantine, trim in pairs:
        curves.append(NetworkCurve(f"{byzantine} Byzantine, {trim} trimmed", panel.attack, feedback, byzantine, trim))
        curves.append(NetworkCurve(f"{byzantine} Byzantine, no threshold", panel.attack, feedback, byzantine, 0))
    return curves


def _scenario(curve: NetworkCurve, problem: dict[str, Any], nodes: int, rounds: int, seed: int) -> Scenario:
    return Scenario.parse(
        {
            "problem": problem,
            "nodes": nodes,
            "byzantine": curve.byzantine,
            "attack": curve.attack,
            "compressor": "l1-sign",
            "error_feedback": curve.error_feedback,
            "strategy": {"name": "norm-threshold", "trim": curve.trim, "step_size": STEP_SIZE},
            "rounds": rounds,
            "seed": seed,
        }
    )


def _drawn(panel: NetworkPanel, curves: Sequence[NetworkCurve], records: dict[NetworkCurve, list[list[RoundRecord]]]) -> Panel:
    lines: list[Line] = [(c.label, [[_number(record["loss"]) for record in run] for run in records[c]]) for c in curves]
    return panel.title, lines


def _verdict(
    panel: NetworkPanel,
    curves: Sequence[NetworkCurve],
    records: dict[NetworkCurve, list[list[RoundRecord]]],
    cells: dict[tuple[NetworkCurve, int], Scenario],
) -> str:
    """Say how the last pair ended, and how many of the Byzantine nodes were among the trimmed of the last round."""
    clean, robust, vanilla = curves[0], curves[-2], curves[-1]
    final = {c: statistics.fmean(_number(run[-1]["loss"]) for run in records[c]) for c in (clean, robust, vanilla)}
    seeds = [s for c, s in cells if c == robust]
    caught = [
        len(byzantine_partitions(cells[robust, s]) & set(run[-1].get("trimmed", ())))
        for s, run in zip(seeds, records[robust], strict=True)
    ]
    return (
        f"Figure 4 ({panel.title}): with {robust.byzantine} Byzantine nodes and {robust.trim} trimmed, Algorithm 1's training "
        f"loss ends at {final[robust]:.3g}; {final[clean]:.3g} without Byzantine nodes, {final[vanilla]:.3g} without the "
        f"threshold; in the last round {statistics.fmean(caught):.3g} of the {robust.byzantine} are among the trimmed."
    )


def _number(value: float | None) -> float:
    return math.inf if value is None else value
