"""The pictures of docs/accuracy.md: accuracy against rounds, and against bytes."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.accuracy_cells import COMPRESSED, DENSE, ROBUST, SETTINGS
from benchmarks.accuracy_tables import Table
from flwr_robustcomp.simulations.plots import draw

__all__ = ["draw_bytes", "draw_rounds"]

_DRAWN = ("drive", "l1-sign", "top-k 1 %", "qsgd")
"""The compressors of the first picture; all of them would hide each other."""

_WITHOUT, _WITH, _OTHERS = "#D55E00", "#0072B2", "#000000"
"""Of the palette of `plots`."""


def draw_rounds(table: Table, path: Path) -> None:
    """Draw accuracy against rounds, one panel per setting."""
    lines = [(DENSE.name, DENSE), (ROBUST.name, ROBUST)]
    lines += [
        (f"{one.name}, {'with' if one.error_feedback else 'without'} error feedback", one)
        for one in COMPRESSED
        if one.name in _DRAWN
    ]
    panels = [
        (setting.title, [(label, [one.accuracy for one in table.of(setting, recipe)]) for label, recipe in lines])
        for setting in SETTINGS
    ]
    # Black for the reference; a compressor has one colour, dashed without error feedback.
    styles = {DENSE.name: (7, 0), ROBUST.name: (1, 0)}
    for label, recipe in lines[2:]:
        styles[label] = ((0, 2, 3, 4)[_DRAWN.index(recipe.name)], 0 if recipe.error_feedback else 1)
    draw(path, "Test accuracy after each round", panels, metric="accuracy", styles=styles)


def draw_bytes(table: Table, path: Path) -> None:
    """Draw the accuracy after the last round against the bytes that a client sends per round, one panel per setting."""
    figure = Figure(figsize=(4.6 * len(SETTINGS), 4.8), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(SETTINGS), sharey=True, squeeze=False)[0]
    for axis, setting in zip(axes, SETTINGS, strict=True):
        labelled = 0
        for recipe in sorted((*COMPRESSED, ROBUST, DENSE), key=lambda one: table.sent(setting, one)):
            x, y = table.sent(setting, recipe), table.final(setting, recipe)
            special = recipe in (ROBUST, DENSE)
            colour = _OTHERS if special else _WITH if recipe.error_feedback else _WITHOUT
            axis.plot([x], [y], marker="*" if special else "o", color=colour, markersize=9 if special else 5, linestyle="")
            if special or recipe.error_feedback:
                labelled += 1  # neighbours are often close: every second name stands below its point
                place, side = (-4 if recipe == DENSE else 4, (4, -9)[labelled % 2]), "right" if recipe == DENSE else "left"
                axis.annotate(recipe.name, (x, y), textcoords="offset points", xytext=place, ha=side, fontsize=7)
        axis.set_xscale("log")
        axis.set_title(setting.title, fontsize=10)
        axis.set_xlabel("bytes per client and round")
        axis.grid(visible=True, which="major", alpha=0.3)
    axes[0].set_ylabel("accuracy")
    figure.suptitle("Accuracy after the last round: with (blue) and without (orange) error feedback", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
