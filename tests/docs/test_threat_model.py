"""The page that a security reviewer signs: promises name tests that exist, and numbers are what the code computes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from benchmarks.gains import table
from benchmarks.threat_model import reaches

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
PROMISES = ("## The model: what each strategy promises", "## The run and the server", "## The account", "## Folders")
REFERENCES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def section(heading: str) -> str:
    return TEXT.split(heading + "\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("path", "name"), REFERENCES)
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("heading", PROMISES)
def test_every_promise_names_its_test(heading: str) -> None:
    tables = section(heading).split("<!-- reach -->")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.endswith("| test |") and not row.startswith("| filter |")]
    assert len(promises) >= 5
    assert [row for row in promises if not re.search(r"\| `tests/[\w/]+\.py::\w+` \|$", row)] == []


def between(mark: str) -> str:
    return TEXT.split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]


def test_the_gains_are_those_of_the_code() -> None:
    assert between("gains") == table()


def test_the_reaches_are_those_of_the_code() -> None:
    assert between("reach") == reaches()


def test_security_md_points_here() -> None:
    assert "(docs/threat-model.md)" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
