"""The tables and verdicts of docs/accuracy.md, from curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.accuracy_cells import ATTACKED, COMPRESSED, DENSE, HONEST, ROBUST, SETTINGS, Recipe, Setting
from benchmarks.accuracy_curves import Curve

__all__ = ["Table", "attacks", "compressors", "summary", "verdicts"]

_SHOWN = (5, 10, 20)
"""Rounds after which the tables show accuracies."""

_IID, _SHARDS = (next(one for one in SETTINGS if one.name == name) for name in ("iid", "shards"))
_IID_ATTACKED, _SHARDS_ATTACKED = ATTACKED


@dataclass(frozen=True)
class Table:
    """Curves of the same seeds for every setting and recipe.

    Attributes
    ----------
    curves : tuple of Curve
        At least one for each setting and recipe that is asked for.
    """

    curves: tuple[Curve, ...]

    @property
    def rounds(self) -> tuple[int, ...]:
        """Rounds that tables show: the last one, and those of `_SHOWN` before it."""
        last = self.curves[0].rounds
        return (*(one for one in _SHOWN if one < last), last)

    def of(self, setting: Setting, recipe: Recipe) -> list[Curve]:
        """Return the curves of a recipe in a setting, one per seed."""
        wanted = (setting.name, recipe.name, recipe.error_feedback)
        return [one for one in self.curves if (one.setting, one.recipe, one.error_feedback) == wanted]

    def final(self, setting: Setting, recipe: Recipe) -> float:
        """Return the mean accuracy after the last round."""
        return statistics.fmean(one.accuracy[-1] for one in self.of(setting, recipe))

    def sent(self, setting: Setting, recipe: Recipe) -> float:
        """Return the mean bytes that a client sends per round."""
        return statistics.fmean(one.sent for one in self.of(setting, recipe))

    def text(self, setting: Setting, recipe: Recipe) -> str:
        """Return the accuracies of `rounds` and, where there are several seeds, the worst last one."""
        curves = self.of(setting, recipe)
        means = " / ".join(f"{statistics.fmean(one.accuracy[t] for one in curves):.3f}" for t in self.rounds)
        return f"{means} ({min(one.accuracy[-1] for one in curves):.3f})" if len(curves) > 1 else means


def compressors(table: Table, setting: Setting) -> list[str]:
    """Return the table of a setting: dense FedAvg and the recommended recipe first, then every compressor."""
    lines = [
        "| compressor | bytes | without error feedback | bytes | with error feedback |",
        "|---|--:|---|--:|---|",
        f"| {DENSE.name} | {table.sent(setting, DENSE):,.0f} | {table.text(setting, DENSE)} | | |",
        f"| **{ROBUST.name}** | | | {table.sent(setting, ROBUST):,.0f} | {table.text(setting, ROBUST)} |",
    ]
    pairs = [COMPRESSED[place : place + 2] for place in range(0, len(COMPRESSED), 2)]
    for pair in pairs:
        plain, kept = sorted(pair, key=lambda one: one.error_feedback)
        cells = [f"{table.sent(setting, one):,.0f} | {table.text(setting, one)}" for one in (plain, kept)]
        lines.append(f"| {plain.name} | {' | '.join(cells)} |")
    return lines


def attacks(table: Table, recipes: Iterable[Recipe]) -> list[str]:
    """Return the table of recipes with and without two attackers."""
    pairs = ((_IID, _IID_ATTACKED), (_SHARDS, _SHARDS_ATTACKED))
    columns = [column for clean, _ in pairs for column in (f"{clean.name}: clean", f"{clean.name}: attacked")]
    lines = [f"| recipe | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for recipe in recipes:
        texts = [table.text(one, recipe) if table.of(one, recipe) else "" for pair in pairs for one in pair]
        lines.append(f"| {_label(recipe)} | {' | '.join(texts)} |")
    return lines


def _label(recipe: Recipe) -> str:
    if recipe in (DENSE, HONEST, ROBUST):
        return recipe.name
    return f"{recipe.name} {'with' if recipe.error_feedback else 'without'} error feedback, mean"


def summary(table: Table) -> list[str]:
    """Return the table of the README: dense FedAvg and the recommended recipe, after the last round."""
    columns = (_IID, _SHARDS, _SHARDS_ATTACKED)
    ratio = table.sent(_IID, DENSE) / table.sent(_IID, ROBUST)
    lines = ["| | bytes | alike nodes | two labels a node | two labels a node, 2 of 10 nodes attack |", "|---|--:|--:|--:|--:|"]
    for recipe, sent in ((DENSE, "1"), (ROBUST, f"1/{ratio:.1f}")):
        finals = " | ".join(f"{100 * table.final(setting, recipe):.1f} %" for setting in columns)
        lines.append(f"| {recipe.name} | {sent} | {finals} |")
    return lines


def verdicts(table: Table) -> list[str]:
    """Return what the recommended recipe has to reach, what it reaches, and whether that is enough."""

    def lost(setting: Setting, against: Setting, reference: Recipe) -> float:
        return 100 * (table.final(setting, ROBUST) - table.final(against, reference))

    ratio = table.sent(_IID, DENSE) / table.sent(_IID, ROBUST)
    rows: Sequence[tuple[str, str, bool]] = [
        _points("IID, against dense FedAvg: at most 0.5 points less", lost(_IID, _IID, DENSE), -0.5),
        _points("two shards, against dense FedAvg: no less", lost(_SHARDS, _SHARDS, DENSE), 0.0),
        ("bytes: at most 1/30 of dense FedAvg's", f"1/{ratio:.1f}", ratio >= 30),
        _points("IID, two of ten attack, against its clean run: at most 1 point less", lost(_IID_ATTACKED, _IID, ROBUST), -1.0),
        _points(
            "two shards, two of ten attack, against its clean run: at most 1 point less",
            lost(_SHARDS_ATTACKED, _SHARDS, ROBUST),
            -1.0,
        ),
        _points(
            "two shards, two of ten attack, against dense FedAvg of the honest eight: no less",
            lost(_SHARDS_ATTACKED, _SHARDS_ATTACKED, HONEST),
            0.0,
        ),
    ]
    lines = ["| what the recipe is to reach | measured | met |", "|---|--:|---|"]
    return [*lines, *(f"| {wanted} | {reached} | {'yes' if enough else '**no**'} |" for wanted, reached, enough in rows)]


def _points(wanted: str, difference: float, least: float) -> tuple[str, str, bool]:
    return wanted, f"{difference:+.1f} points", round(difference, 1) >= least
