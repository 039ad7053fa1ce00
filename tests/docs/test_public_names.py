"""The code of the pages imports public names that stand on a page of the reference, and neither calls nor overrides others."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from tests.docs.blocks import PAGES, ROOT, blocks_of

DOCUMENTED = {
    match[1]
    for page in (ROOT / "docs/reference/api").glob("*.md")
    for match in re.finditer(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
}


def nodes_of(page: str) -> Iterator[ast.AST]:
    """Yield the syntax of a page's Python, and of the Python that its diffs add."""
    for block in blocks_of(page):
        if block.language == "python":
            yield from ast.walk(ast.parse(block.text))
        elif block.language == "diff":
            added = [line[1:] for line in block.text.splitlines() if re.match(r"\+(from|import) ", line)]
            yield from ast.walk(ast.parse("\n".join(added)))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names(page: str) -> list[str]:
    """Return the names with an underscore that a page's code defines as methods, reads or sets."""
    nodes = list(nodes_of(page))
    attributes = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    methods = [m.name for node in nodes if isinstance(node, ast.ClassDef) for m in node.body if isinstance(m, ast.FunctionDef)]
    return [name for name in attributes + methods if is_private(name)]


def imports_of(page: str) -> Iterator[tuple[str, str]]:
    """Yield what a page imports from this package, as module and name."""
    for node in nodes_of(page):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "flwr_robustcomp":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (("", a.name) for a in node.names if a.name.split(".")[0] == "flwr_robustcomp")


@pytest.mark.parametrize("page", PAGES)
def test_pages_use_nothing_private(page: str) -> None:
    assert private_names(page) == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_import_from_documented_places(page: str) -> None:
    for module, name in imports_of(page):
        if f"{module}.{name}".strip(".") in DOCUMENTED:
            continue
        assert module in DOCUMENTED, f"{module} has no page in docs/reference/api"
        assert name in importlib.import_module(module).__all__, f"{module}.{name}"


def test_the_pages_do_import_something() -> None:
    assert ("flwr_robustcomp.filters", "kept_rows") in list(imports_of("docs/how-to/write-a-strategy.md"))
    assert {"flwr_robustcomp", "flwr_robustcomp.filters"} <= DOCUMENTED
