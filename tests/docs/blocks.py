"""The fenced code blocks of README.md and docs/, read by a Markdown parser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted(str(page.relative_to(ROOT)) for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@dataclass(frozen=True)
class Block:
    """A block, where it stands, and the name of the file that its first line asks for, ``# name.py``, if it does."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.match(r"# ([a-z_]+\.(?:py|toml))\n", self.text)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order; the line is that of the block's first line of code."""
    tokens = MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8"))
    return [Block(page, t.map[0] + 2, t.info.strip(), t.content) for t in tokens if t.type == "fence" and t.map]
