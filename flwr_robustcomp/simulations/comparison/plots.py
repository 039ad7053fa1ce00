"""Pictures of curves; matplotlib's object interface, so that no display and no global state is touched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr_robustcomp.errors import ConfigurationError

__all__ = ["Line", "Panel", "draw"]

Runs = Sequence[Sequence[float]]
"""The values of each run, round by round."""

Line = tuple[str, Runs]
"""A label and its runs."""

Panel = tuple[str, Sequence[Line]]
"""A title and its lines."""

# Okabe and Ito's palette, told apart by colour-blind readers too; black last, for references.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A900", "#000000")
_STYLES = ("-", "--", "-.", ":")


def draw(
    path: Path,
    title: str,
    panels: Sequence[Panel],
    *,
    metric: str,
    first_round: int = 0,
    styles: Mapping[str, tuple[int, int]] | None = None,
) -> None:
    """Draw panels of mean curves with a band from the smallest to the largest run, and save them.

    Parameters
    ----------
    path : Path
        Where to; the ending chooses the format.
    title : str
        Over all panels.
    panels : sequence of (title, lines)
        Side by side, on one vertical axis.
    metric : str
        Labels the vertical axis; anything but an accuracy is drawn on a logarithmic scale.
    first_round : int
        The round of the first value.
    styles : mapping of str to (int, int), optional
        Colour and line style of each label; by default in order of appearance.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigurationError("matplotlib is not installed: pip install 'flwr-robustcomp[simulation]'") from error
    labels = list(dict.fromkeys(label for _, lines in panels for label, _ in lines))
    look = dict(styles or {label: (i, i // len(_COLOURS)) for i, label in enumerate(labels)})
    figure = Figure(figsize=(max(6.4, 4.6 * len(panels)), 4.8), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    shown: list[float] = []
    for axis, (name, lines) in zip(axes, panels, strict=True):
        for label, runs in lines:
            colour, style = _COLOURS[look[label][0] % len(_COLOURS)], _STYLES[look[label][1] % len(_STYLES)]
            columns = list(zip(*runs, strict=False))
            rounds = range(first_round, first_round + len(columns))
            means = [_finite(sum(column) / len(column)) for column in columns]
            shown += means
            (handles[label],) = axis.plot(rounds, means, color=colour, linestyle=style, linewidth=1.6, label=label)
            if len(runs) > 1:
                low, high = [_finite(min(c)) for c in columns], [_finite(max(c)) for c in columns]
                axis.fill_between(rounds, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("round")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(visible=True, which="major", alpha=0.3)
    for axis in axes:  # where every run diverged there is nothing that a logarithmic axis could be laid out for
        axis.set_yscale("log" if metric != "accuracy" and any(mean > 0 for mean in shown) else "linear")
    axes[0].set_ylabel("error ||w - w*||" if metric == "error" else metric)
    figure.suptitle(title, fontsize=12)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(handles)), fontsize=9)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise ConfigurationError(f"out must be a writable folder, got {str(path.parent)!r}: {error.strerror}") from error


def _finite(value: float) -> float:
    """Return a value, or a gap in its place where a run diverged: infinity would stretch the axis."""
    return value if math.isfinite(value) else math.nan
