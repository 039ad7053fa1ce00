"""The examples in docstrings run and print what they say; every public class has one that a user can copy."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import flwr_robustcomp
from tests.optional import HAS_BYZFL

PUBLIC = ("flwr_robustcomp", *(f"flwr_robustcomp.{name}" for name in ("clients", "compressors", "filters", "strategies")))

EXAMPLES = {
    example.name: example
    for info in pkgutil.walk_packages(flwr_robustcomp.__path__, "flwr_robustcomp.")
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(info.name))
    if example.examples
}


def public_classes() -> list[type]:
    """Return the classes that the packages offer, each once."""
    modules = [importlib.import_module(name) for name in PUBLIC]
    offered = (getattr(module, name) for module in modules for name in module.__all__)
    return sorted({cls for cls in offered if inspect.isclass(cls)}, key=_name)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _run(example: doctest.DocTest) -> str:
    """Run an example; return what doctest reports, which is nothing if all is as it says."""
    reported: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=reported.append)
    return "".join(reported)


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {_name(cls) for cls in public_classes()}))
def test_an_example_prints_what_it_says(name: str) -> None:
    assert _run(EXAMPLES[name]) == ""


@pytest.mark.parametrize("cls", public_classes(), ids=_name)
def test_a_public_class_has_an_example_that_imports_what_it_needs(
    cls: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\nExamples\n--------\n>>> " in (inspect.getdoc(cls) or ""), "add a section Examples to the docstring"
    if cls is flwr_robustcomp.ByzFL and not HAS_BYZFL:
        return
    monkeypatch.chdir(tmp_path)
    example = EXAMPLES[_name(cls)]
    example.globs = {"__name__": "__main__"}
    assert _run(example) == ""


def test_a_wrong_example_is_found() -> None:
    parsed = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert "Expected:\n    3\nGot:\n    2" in _run(parsed)
