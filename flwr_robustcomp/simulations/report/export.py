"""Tables and pictures as files: CSV, LaTeX, SVG and PDF."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from flwr_robustcomp.errors import ConfigurationError, printable, require
from flwr_robustcomp.files import replace_file, replacing
from flwr_robustcomp.simulations.report.chart import Axis, Chart
from flwr_robustcomp.simulations.report.heatmap import STEPS, HeatMap
from flwr_robustcomp.simulations.report.page import Chapter
from flwr_robustcomp.simulations.report.tables import Table

__all__ = ["Format", "check_format", "export_figures", "export_tables", "file_name"]

Format = Literal["svg", "pdf"]
"""What pictures are saved as."""

_COLOURS = ("#0067a5", "#c44a00", "#00785a", "#a8408a", "#8a6d00", "#2f7fb5", "#6b5fb5", "#4d5561")
_DASHES = ("-", "--", ":")

_LONGEST_NAME = 200
"""Characters of a file's name without its ending; the usual systems take 255 bytes."""


def check_format(figures: str | None) -> None:
    """Raise unless the format of the pictures is known."""
    require(figures is None or figures in get_args(Format), "figures", figures, f"one of {', '.join(get_args(Format))}")


def file_name(*parts: str) -> str:
    """Return a file's name that every system takes."""
    return re.sub(r"[^a-z0-9.=]+", "-", "-".join(parts).lower()).strip("-")[:_LONGEST_NAME]


def export_tables(chapters: Sequence[Chapter], folder: Path, ending: Literal["csv", "tex"]) -> list[Path]:
    """Write every table to ``SUITE-TABLE.csv`` or ``.tex``; return the files."""
    write: Callable[[Table], str] = Table.csv if ending == "csv" else Table.latex
    paths = []
    for chapter in chapters:
        for table in chapter.tables:
            path = folder / f"{file_name(chapter.section.name, table.name)}.{ending}"
            _save(path, write(table).encode())
            paths.append(path)
    return paths


def export_figures(chapters: Sequence[Chapter], folder: Path, ending: Format) -> list[Path]:
    """Draw every heat map and every block of panels with matplotlib; return the files."""
    paths = []
    for chapter in chapters:
        name = chapter.section.name
        path = folder / f"{file_name(name, 'heat-map')}.{ending}"
        _draw_heat_map(chapter.heat, path)
        paths.append(path)
        for topic, blocks in chapter.blocks.items():
            for block in blocks:
                path = folder / f"{file_name(name, topic, block.title)}.{ending}"
                _draw_panels(block.charts, path)
                paths.append(path)
    return paths


def _draw_panels(charts: Sequence[Chart], path: Path) -> None:
    columns = min(4, len(charts))
    rows = math.ceil(len(charts) / columns)
    figure = _figure(3.2 * columns, 2.5 * rows + 0.5)
    handles: dict[str, Any] = {}
    for axis, chart in zip(figure.subplots(rows, columns, squeeze=False).flat, charts, strict=False):
        for series in chart.series:
            colour, dashes = _COLOURS[series.look % len(_COLOURS)], _DASHES[series.look // len(_COLOURS) % len(_DASHES)]
            (handles[series.label],) = axis.plot(series.x, series.mid, color=colour, linestyle=dashes, linewidth=1.3)
            if series.low:
                axis.fill_between(series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)
        axis.set_title(_text(chart.title), fontsize=9)
        for which, scale in (("x", chart.x), ("y", chart.y)):
            _scale(axis, which, scale)
        axis.grid(visible=True, alpha=0.3)
        axis.tick_params(labelsize=7)
    for axis in figure.axes[len(charts) :]:
        axis.remove()
    figure.legend(handles.values(), map(_text, handles), loc="outside lower center", ncols=min(4, len(handles)), fontsize=8)
    _save_figure(figure, path)


def _scale(axis: Any, which: str, scale: Axis) -> None:
    set_ = {name: getattr(axis, f"set_{which}{name}") for name in ("scale", "lim", "label")}
    set_["scale"]("log" if scale.log else "linear")
    set_["lim"](scale.low, scale.high)
    set_["label"](_text(scale.label), fontsize=8)


def _draw_heat_map(heat: HeatMap, path: Path) -> None:
    rows = [(f"{name}, {compressor}", cells) for compressor, of in heat.groups for name, cells in of]
    figure = _figure(2.6 + 1.15 * len(heat.columns), 1.2 + 0.32 * len(rows))
    axis = figure.subplots()
    steps = [[math.nan if c is None or c.step is None else c.step / (STEPS - 1) for c in cells] for _, cells in rows]
    axis.imshow(steps, cmap="RdYlBu", vmin=-0.35, vmax=1.35, aspect="auto")
    for y, (_, cells) in enumerate(rows):
        for x, cell in enumerate(cells):
            if cell is not None:
                weight = "bold" if cell.best else "normal"
                axis.text(x, y, cell.text + " *" * cell.beaten, ha="center", va="center", fontsize=7, weight=weight)
    axis.set_xticks(range(len(heat.columns)), [*map(_text, heat.columns)], rotation=30, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), [_text(name) for name, _ in rows], fontsize=8)
    _save_figure(figure, path)


def _text(name: str) -> str:
    """Return a name as matplotlib shows it: dollars would begin a formula, and no font has control characters."""
    return printable(name, 60).replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigurationError("matplotlib is not installed: pip install 'flwr-robustcomp[simulation]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save_figure(figure: Any, path: Path) -> None:
    with warnings.catch_warnings():
        # Names may be long, or in a script that the font lacks: the picture shows what it can.
        warnings.simplefilter("ignore", UserWarning)
        _writable(path, lambda: _draw(figure, path))


def _draw(figure: Any, path: Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def _save(path: Path, data: bytes) -> None:
    _writable(path, lambda: replace_file(path, data))


def _writable(path: Path, write: Callable[[], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise ConfigurationError(f"folder must be writable, got {str(path.parent)!r}: {error.strerror}") from error
