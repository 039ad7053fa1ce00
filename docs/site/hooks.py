"""What `mkdocs build` does beyond its plugins: links that leave docs/, the page of the command line, the list of decisions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#]*)(?:#[^)]*)?\)")
_COMMANDS = "<!-- every command, generated -->"


def on_config(config: Any) -> Any:
    """Expand ``FOLDER/*`` in the navigation to the pages of that folder, by name."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    return config


def _expanded(item: Any, docs: Path) -> Any:
    if isinstance(item, dict):
        return {title: _expanded(below, docs) for title, below in item.items()}
    if isinstance(item, list):
        return [_expanded(below, docs) for below in item]
    if item.endswith("/*"):
        return [str(page.relative_to(docs)) for page in sorted(docs.glob(f"{item}.md"))]
    return item


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Turn links into the repository into the paths that a clone has, and put the commands where their page asks for them."""
    docs = Path(config.docs_dir).resolve()
    folder = (docs / page.file.src_uri).parent

    def named(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: {match[2]} does not exist")
        path = f"`{target.relative_to(docs.parent)}`"
        return path if match[1].strip("`") in path else f"{match[1]} ({path})"

    return _LINK.sub(named, markdown).replace(_COMMANDS, _commands() if _COMMANDS in markdown else "")


def _commands() -> str:
    """Return what typer itself writes about `robustcomp`, without its title."""
    line = [sys.executable, "-m", "typer", "flwr_robustcomp.cli", "utils", "docs", "--name", "robustcomp"]
    made = subprocess.run(line, capture_output=True, text=True, check=False)
    if made.returncode:
        raise PluginError(f"{' '.join(line)}: {made.stderr}")
    return made.stdout.partition("\n")[2]
