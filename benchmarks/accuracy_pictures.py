"""The pictures of docs/accuracy.md: accuracy against rounds, and against bytes."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.accuracy_cells import COMPRESSED, DENSE, ROBUST, SETTINGS
from benchmarks.accuracy_tables import Table
from flwr_robustcomp.simulations.comparison.plots import draw

__all__ = ["draw_bytes", "draw_rounds"]

_DRAWN = ("drive", "l1-sign", "top-k 1 %", "qsgd")
"""The compressors of the first picture; all of them would hide each other."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osDv^Ph"
"""One of each together belongs to a compressor."""

_SHOWN = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Accuracies on the axis of the second picture."""


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
    """Draw the error after the last round against the bytes that a client sends per round, one panel per setting.

    Both axes are logarithmic: recipes differ in the last few points of accuracy, and by factors in bytes.
    """
    figure = Figure(figsize=(4.6 * len(SETTINGS), 5.4), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(SETTINGS), sharey=True, squeeze=False)[0]
    handles = {}
    for axis, setting in zip(axes, SETTINGS, strict=True):
        for place in range(0, len(COMPRESSED), 2):
            plain, kept = sorted(COMPRESSED[place : place + 2], key=lambda one: one.error_feedback)
            colour, marker = _COLOURS[place // 2 % len(_COLOURS)], _MARKERS[place // 2 % len(_MARKERS)]
            points = [(table.sent(setting, one), 1 - table.final(setting, one)) for one in (plain, kept)]
            axis.plot(*zip(*points, strict=True), color=colour, linewidth=0.8, alpha=0.5)
            axis.plot(*points[0], color=colour, marker=marker, markersize=7, markerfacecolor="none", linestyle="")
            (handles[plain.name],) = axis.plot(*points[1], color=colour, marker=marker, markersize=7, linestyle="")
        for recipe, marker in ((ROBUST, "*"), (DENSE, "X")):
            x, y = table.sent(setting, recipe), 1 - table.final(setting, recipe)
            (handles[recipe.name],) = axis.plot(x, y, color="black", marker=marker, markersize=9, linestyle="", zorder=3)
        axis.set(xscale="log", yscale="log", title=setting.title, xlabel="bytes per client and round")
        axis.grid(visible=True, which="major", alpha=0.3)
    axes[0].set_yticks([1 - one for one in _SHOWN], [f"{one:g}" for one in _SHOWN])
    axes[0].minorticks_off()
    axes[0].invert_yaxis()
    axes[0].set_ylabel("accuracy")
    figure.suptitle("Accuracy after the last round: filled with error feedback, hollow without", fontsize=12)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
