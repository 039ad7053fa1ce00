"""The page: one HTML file with its styles and charts inside, which asks nothing of the network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.report.block import Block
from flwr_robustcomp.simulations.report.contraction import contraction
from flwr_robustcomp.simulations.report.curves import against_bytes, against_rounds
from flwr_robustcomp.simulations.report.expense import expense
from flwr_robustcomp.simulations.report.filtering import detection, norms
from flwr_robustcomp.simulations.report.heatmap import HeatMap, heat_map
from flwr_robustcomp.simulations.report.section import Section, Study
from flwr_robustcomp.simulations.report.svg import LOOKS, render
from flwr_robustcomp.simulations.report.tables import Table
from flwr_robustcomp.simulations.report.unlikeness import unlikeness
from flwr_robustcomp.simulations.report.verdicts import ACCURACY_MARGIN, ERROR_SHARE, Verdicts, judge
from flwr_robustcomp.simulations.report.words import incomparable, summary

__all__ = ["Chapter", "chapters", "left_out", "render_page"]

_NAMED = 5
"""Lines that cannot be read and are named: a damaged file may have millions."""


@dataclass(frozen=True)
class Chapter:
    """Everything that is said about one comparison.

    Attributes
    ----------
    section : Section
        What it is about.
    words : sequence of str
        The summary.
    verdicts : Verdicts
        Who withstands what.
    heat : HeatMap
        Defences and attacks.
    blocks : mapping of str to sequence of Block
        Panels by topic: ``rounds``, ``bytes``, ``found``, ``norms``, ``spread``, ``delta``.
    cost : Table or None
        Time and memory, where noted.
    """

    section: Section
    words: Sequence[str]
    verdicts: Verdicts
    heat: HeatMap
    blocks: Mapping[str, Sequence[Block]]
    cost: Table | None

    @property
    def tables(self) -> list[Table]:
        """Every table, for exports."""
        own = [block.table for blocks in self.blocks.values() for block in blocks]
        return [self.heat.table, *own, *([self.cost] if self.cost else [])]

    @property
    def incomparable(self) -> str | None:
        """Why nothing is said about who withstands what; None where it is."""
        return None if self.verdicts.comparable else incomparable(self.section)

    @property
    def margin(self) -> tuple[str, str]:
        """What it takes to withstand an attack, and to be beaten, in words that end before what is compared with."""
        if self.section.better == "higher":
            points = f"{100 * ACCURACY_MARGIN:.0f} points of accuracy"
            return f"ends at most {points} below", f"ends more than {points} below"
        share = f"{100 * ERROR_SHARE:.0f}\u202f% of the orders of magnitude of"
        return f"gains at least {share}", f"gains less than {share}"


def chapters(study: Study) -> list[Chapter]:
    """Return a chapter for each comparison of a study."""
    found = []
    for section in study.sections:
        verdicts = judge(section)
        blocks = {
            "rounds": against_rounds(section),
            "bytes": against_bytes(section),
            "found": detection(section),
            "norms": norms(section),
            "spread": unlikeness(section),
            "delta": contraction(section),
        }
        words, heat = summary(section, verdicts), heat_map(section, verdicts)
        found.append(Chapter(section, words, verdicts, heat, blocks, expense(section)))
    return found


def render_page(study: Study, parts: Sequence[Chapter]) -> str:
    """Return the page as HTML.

    Raises
    ------
    ConfigurationError
        If jinja2, which comes with the extra ``simulation`` and with torch, is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigurationError("jinja2 is not installed: pip install 'flwr-robustcomp[simulation]'") from error
    environment = Environment(
        loader=PackageLoader("flwr_robustcomp.simulations.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = itertools.count(1)
    environment.globals |= {"identifier": lambda: f"i{next(numbers)}", "svg": render, "looks": LOOKS, "as_json": _as_json}
    template = environment.get_template("page.html")
    titles = " and ".join(part.section.title for part in parts)
    start = study.starts[-1] if study.starts else None
    return template.render(title=titles, study=study, skipped=left_out(study), chapters=parts, start=start)


def left_out(study: Study) -> list[str]:
    """Say how much of the folder's files is no record, and what the first of it is; nothing where all is."""
    count = len(study.skipped)
    if not count:
        return []
    more = f" The first {_NAMED}:" if count > _NAMED else ""
    head = f"{count:,} {'line' if count == 1 else 'lines'} of the record cannot be read, and nothing counts them.{more}"
    return [head, *(f"{line}." for line in study.skipped[:_NAMED])]


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
