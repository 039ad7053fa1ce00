"""Pages that list registered parts list all of them, and the table of what a new part needs names what is there."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection

import pytest

from flwr_robustcomp.compressors import COMPRESSORS
from flwr_robustcomp.filters import FILTERS
from flwr_robustcomp.rules import RULES
from flwr_robustcomp.simulations.attacks import ATTACKS
from flwr_robustcomp.simulations.problems import PROBLEMS
from tests.docs.blocks import ROOT

FIRST_CELL = re.compile(r"^\| `([a-z0-9-]+)(?:\+<codec>)?`", re.MULTILINE)


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _table(page: str, head: str) -> str:
    """Return the table of a page that begins with a head."""
    return _text(page).split(head)[1].split("\n\n")[0]


@pytest.mark.parametrize(
    ("page", "head", "parts"),
    [
        ("docs/wire-format.md", "| codec | header | body |", COMPRESSORS),
        ("docs/filters.md", "| name | makes of m vectors |", FILTERS),
        ("docs/filters.md", "| `rule` | of the values at each coordinate |", RULES),
        ("docs/attacks.md", "| name | kind |", ATTACKS),
    ],
    ids=["codecs", "filters", "rules", "attacks"],
)
def test_the_table_of_a_page_has_a_row_for_every_part(page: str, head: str, parts: Collection[str]) -> None:
    assert set(FIRST_CELL.findall(_table(page, head))) == set(parts)


def test_versions_of_codecs_are_those_of_the_code() -> None:
    rows = _table("docs/wire-format.md", "| codec | header | body |").splitlines()
    shown = {
        found[1]: int((re.search(r"\(version (\d+)\)", row) or [0, 1])[1]) for row in rows if (found := FIRST_CELL.match(row))
    }
    assert shown == {name: cls.version for name, cls in COMPRESSORS.items()}


def test_kinds_of_attacks_are_those_of_the_code() -> None:
    table = _table("docs/attacks.md", "| name | kind |")
    assert [name for name, cls in ATTACKS.items() if f"| `{name}` | {cls.kind} |" not in table] == []


def test_every_problem_is_named() -> None:
    assert [name for name in PROBLEMS if f"`{name}`" not in _text("docs/problems.md").partition("\n## ")[0]] == []


ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in _text("docs/architecture.md").split("## To add a part")[1].split("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| part")
]


def test_the_table_of_what_a_part_needs_has_every_kind() -> None:
    assert len(ROWS) == 7


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_the_table_of_a_new_part_names_is_there(row: list[str]) -> None:
    _, file, registry, pages, tests = row
    folder, name = re.findall(r"`([a-z_/]+)/<name>\.py`, an? `(\w+)`", file)[0]
    package = importlib.import_module("flwr_robustcomp." + folder.replace("/", "."))
    assert hasattr(package, name)
    variable, place = re.findall(r"`([A-Z_]+)` in `([a-z_/]+\.py)`", registry)[0]
    module = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert hasattr(importlib.import_module(f"flwr_robustcomp.{module}"), variable)
    for page in re.findall(r"\]\(([^)]+)\)", pages):
        assert (ROOT / "docs" / page).is_file(), page
    named = re.findall(r"`([\w./-]+\.(?:py|toml|md))`", f"{pages} {tests}")
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path
