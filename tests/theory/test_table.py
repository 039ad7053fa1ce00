"""docs/theory.md shows what the command prints."""

from __future__ import annotations

from pathlib import Path

from flwr_robustcomp.theory.table import as_markdown

DOCS = Path(__file__).parents[2] / "docs" / "theory.md"


def test_the_page_is_current() -> None:
    assert as_markdown() in DOCS.read_text(encoding="utf-8"), "replace the tables by python -m flwr_robustcomp.theory.table"


def test_the_table_has_the_settings_of_the_experiments() -> None:
    lines = as_markdown().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["5, 7", "10, 12", "20, 22"]
    assert all(line.count("|") == 7 for line in lines if line)
