"""What `mkdocs build` does beyond its plugins: links that leave docs/, the commands' page, the decisions, no remote scripts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#]*)(?:#[^)]*)?\)")
_COMMANDS = "<!-- every command, generated -->"
_REMOTE = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"[^>]*>(?:</script>)?')
_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the plugin `offline` puts on every page, for a search without a server."""


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


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Put our own stand-in where the theme would fetch one from a server, and refuse whatever else would be fetched."""
    return _local(output, f"{'../' * page.url.count('/')}site/worker.js", page.file.src_uri)


def on_post_template(output_content: str, *, template_name: str, **_: Any) -> str:
    """Do the same for pages that no Markdown stands behind: 404.html."""
    return _local(output_content, "site/worker.js", template_name) if template_name.endswith(".html") else output_content


def _local(output: str, shim: str, name: str) -> str:
    output = output.replace(_SHIM, shim)
    if found := _REMOTE.search(output):
        raise PluginError(f"{name} would fetch {found[0]}")
    return output


def _commands() -> str:
    """Return what typer itself writes about `robustcomp`, without its title."""
    line = [sys.executable, "-m", "typer", "flwr_robustcomp.cli", "utils", "docs", "--name", "robustcomp"]
    made = subprocess.run(line, capture_output=True, text=True, check=False)
    if made.returncode:
        raise PluginError(f"{' '.join(line)}: {made.stderr}")
    return made.stdout.partition("\n")[2]
