"""Shell lines of the documentation, held against the command line, the Makefile and pyproject.toml; some of them are run."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest
import typer.main
from rich.console import Console

from flwr_robustcomp.cli import app, console, main
from tests.docs.blocks import ROOT

EXPLAINED = {
    "flwr": "starts a SuperLink; tests/simulations/runs/test_stock_flower.py runs it",
    "ray": "starts a cluster; tests/simulations/engines/test_ray_cluster.py runs against one",
    "python3": "makes a virtual environment, as `make setup` does",
    ".": "enters that environment",
    "tensorboard": "starts a server that does not end",
}
"""Programs whose lines are neither run nor parsed, and why."""


def lines(text: str) -> list[list[str]]:
    """Return the commands of a block as words, without comments and without assignments before them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            found.append(words)
    return found


def check(words: list[str]) -> None:
    """Raise unless a command could be run as it stands."""
    program, *arguments = words
    if program == "robustcomp":
        _parse(arguments)
    elif program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
        named = {word for word in arguments if not re.fullmatch(r"[A-Z_]+=.*", word)}
        assert targets.issuperset(named), f"no target in {arguments}"
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        groups = re.findall(r"\[([^\]]*)\]", " ".join(arguments))
        assert all(extra in extras for group in groups for extra in group.split(",")), f"no such extra in {arguments}"
    else:
        assert program in EXPLAINED, f"{program!r} is not known to tests/docs/commands.py"


def _parse(arguments: list[str]) -> None:
    """Parse as typer does, without running anything: every option exists and every value has its type."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    name, command, rest = group.resolve_command(click.Context(group), arguments)
    assert command is not None
    command.make_context(name, rest)


def run(words: list[str], folder: Path) -> str:
    """Run a `robustcomp` command in a folder, this process's own, whose modules can be imported; return what it printed."""
    if words[1] != "compare":
        return _run_here(words)
    path = os.pathsep.join([str(ROOT), str(folder)])
    done = subprocess.run(
        [sys.executable, "-m", "flwr_robustcomp.cli", *words[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
    return done.stdout


def _run_here(words: list[str]) -> str:
    """Call the command line's entry point: the same code, without a second's imports."""
    printed, complaints = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(complaints):
        patch.setattr(sys, "argv", words)
        patch.setattr(console, "out", Console(width=140))
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code, f"{shlex.join(words)}: {complaints.getvalue()}"
    return printed.getvalue()


def agrees(shown: str, printed: str) -> bool:
    """Whether every line of ``shown`` was printed, its numbers to one part in fifty."""
    return all(any(_alike(line, other) for other in printed.splitlines()) for line in shown.splitlines() if line.strip())


_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def _alike(one: str, other: str) -> bool:
    if _NUMBER.sub("#", one).split() != _NUMBER.sub("#", other).split():
        return False
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return all(abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= 0.02 * float(b.replace(",", "")) for a, b in pairs)
