"""docs/paper-to-code.md: every numbered item of the paper is there, once, and every name in it exists."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from typing import Any

import pytest

from tests.docs.blocks import ROOT

NUMBERED = {
    "Algorithm": 3,
    "Assumption": 5,
    "Definition": 4,
    "Equation": 7,
    "Example": 5,  # the list of compressors in section 3
    "Figure": 4,
    "Lemma": 5,
    "Remark": 11,
    "Theorem": 3,
}
"""What the paper numbers, and up to which number."""

_PAGE = (ROOT / "docs/paper-to-code.md").read_text(encoding="utf-8")


def _rows() -> list[list[str]]:
    """Return item, what, code, ours of every row; the bars of norms are escaped."""
    rows = [line for line in _PAGE.splitlines() if line.startswith("| ") and not line.startswith("| item")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def _resolve(name: str) -> Any:
    """Return what a dotted name below the package stands for; the longest prefix that is a module is imported."""
    parts = ["flwr_robustcomp", *name.split(".")]
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def _names(code: str) -> list[str]:
    return re.findall(r"`([a-z_0-9]+\.[A-Za-z_0-9.]+)`", code)


def test_every_numbered_item_has_one_row() -> None:
    found = Counter(item for item, *_ in _rows())
    wanted = [f"{kind} {number}" for kind, last in NUMBERED.items() for number in range(1, last + 1)]
    assert not {item: found[item] for item in wanted if found[item] != 1}
    numbered = {item for item in found if re.fullmatch(rf"({'|'.join(NUMBERED)}) \d+", item)}
    assert numbered == set(wanted)


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_every_name_exists(row: list[str]) -> None:
    assert len(row) == 4
    item, _, code, ours = row
    assert _names(code) or code.startswith("none: "), f"{item} names no code and does not say why"
    for name in _names(code + ours):
        _resolve(name)


def test_a_name_that_does_not_exist_is_found() -> None:
    for name in ("theory.epsilon_3", "nowhere.at_all", "compressors.QSGD.bound"):
        with pytest.raises((AssertionError, AttributeError)):
            _resolve(name)
