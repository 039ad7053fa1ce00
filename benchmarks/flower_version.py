"""Try another version of Flower: a virtual environment with it, the fast tests, and ``flwr run`` on the robust quickstart.

    make test-flower VERSION=1.38
    make test-flower VERSION=nightly

The environment has the pins of constraints.txt, but for those that this Flower does not allow. Tools that only check the source
(mypy, ruff, mkdocs) are left out, because their own requirements shut out older versions of Flower.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

__all__ = ["NIGHTLY", "TOUCHES", "Flower", "allowed_pins", "main", "oldest_version", "requirement_of"]

ROOT = Path(__file__).parents[1]

NIGHTLY = "nightly"
"""The version that stands for the newest build of flwr-nightly."""

EXTRAS = "byzfl,data,simulation,test"

TOUCHES = (
    *("tests/test_flower.py", "tests/test_public_surface.py", "tests/test_quickstart.py", "tests/test_readme.py"),
    *("tests/test_settings.py", "tests/test_wire.py", "tests/clients", "tests/checkpoints", "tests/strategies"),
    *(
        "tests/simulations/engines/test_in_process_grid.py",
        "tests/simulations/engines/test_batch.py",
        "tests/simulations/runs/test_run.py",
    ),
    "tests/simulations/attacks/test_colluding_grid.py",
)
"""The tests that go through Flower's messages, grids, strategies and apps; the rest is mathematics and reports."""

_LEFT_OUT = ("test_end_to_end.py", "test_fuzz_replies.py", "test_hostile.py")
"""Long walks over many compressors and attacks. They touch nothing of Flower that the others do not."""

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)$")


@dataclass(frozen=True, slots=True)
class Flower:
    """A release of Flower: its exact version, and what it requires with the extra "simulation"."""

    version: str
    requirements: tuple[Requirement, ...]


def oldest_version(pyproject: str) -> str:
    """Return the oldest version of Flower that a pyproject.toml allows."""
    for text in tomllib.loads(pyproject)["project"]["dependencies"]:
        requirement = Requirement(text)
        if requirement.name == "flwr":
            return min((part.version for part in requirement.specifier if part.operator == ">="), key=Version)
    raise ValueError("pyproject.toml must depend on flwr")


def requirement_of(version: str) -> str:
    """Return what to ask pip for; "1.38" means the newest 1.38.x.

    Raises
    ------
    ValueError
        If the version is none.
    """
    if version == NIGHTLY:
        return "flwr-nightly"
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
        raise ValueError(f"VERSION must be like 1.38, 1.38.0 or {NIGHTLY}, got {version!r}")
    return f"flwr=={version}" if version.count(".") == 2 else f"flwr=={version}.*"


def allowed_pins(constraints: str, requirements: Iterable[Requirement], flwr: str | None) -> str:
    """Return constraints without the pins that requirements exclude, and with Flower itself pinned.

    Parameters
    ----------
    constraints : str
        Lines ``name==version``; all others are dropped.
    requirements : iterable of Requirement
        Those of the Flower to be installed.
    flwr : str, optional
        Its exact version; by default the pin of Flower is kept as it is.
    """
    wanted = {canonicalize_name(r.name): r.specifier for r in requirements if _applies(r)}
    kept = []
    for line in constraints.splitlines():
        pin = _PIN.match(line)
        if pin is None:
            continue
        name, version = canonicalize_name(pin[1]), pin[2]
        if name == "flwr":
            version = flwr or version
        elif name in wanted and not wanted[name].contains(version, prereleases=True):
            continue
        kept.append(f"{pin[1]}=={version}\n")
    return "".join(kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environment, run the tests in it, and say what passed; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flower_version", description=__doc__)
    oldest = oldest_version((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parser.add_argument("version", nargs="?", default=oldest, help=f"such as 1.38, or {NIGHTLY} (default: {oldest})")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "flower", help="folder of the environments")
    parser.add_argument("--touches", action="store_true", help="only the tests that go through Flower")
    parser.add_argument("--prepare", action="store_true", help="only make the environment, and run nothing in it")
    options = parser.parse_args(arguments)
    try:
        requirement_of(options.version)
    except ValueError as error:
        parser.error(str(error))
    folder = (options.out / options.version).resolve()
    python = folder / "bin" / "python"
    version = _make_environment(folder, python, options.version)
    if options.prepare:
        return 0
    tests = _touching() if options.touches else ["tests"]
    failed = _pytest(python, *_SPREAD, "-m", "not processes and not deployment", *tests)
    quickstart = _pytest(python, "-m", "processes", "-k", "quickstart-robust", "tests/test_quickstart.py")
    for what, status in (("tests", failed), ("flwr run on examples/quickstart-robust", quickstart)):
        print(f"Flower {version}, {what}: {'failed' if status else 'passed'}")
    return 1 if failed or quickstart else 0


_SPREAD = ("--numprocesses", "auto", "--maxprocesses", "8", "--dist", "loadgroup")


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": "simulation"})


def _touching() -> list[str]:
    return [*TOUCHES, *(f"--ignore=tests/strategies/{name}" for name in _LEFT_OUT)]


def _make_environment(folder: Path, python: Path, version: str) -> str:
    """Install into the environment unless it is as it should be; return the exact version of its Flower."""
    if not python.exists():
        print(f"Making {folder} (a few minutes the first time) ...", flush=True)
        venv.create(folder, with_pip=True)
    flower = _look_up(python, version)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    constraints = folder / "constraints.txt"
    text = allowed_pins(pins, flower.requirements, None if version == NIGHTLY else flower.version)
    done = folder / "installed.txt"
    wanted = f"{flower.version}\n{(ROOT / 'pyproject.toml').read_text(encoding='utf-8')}\n{text}"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return flower.version
    done.unlink(missing_ok=True)
    constraints.write_text(text, encoding="utf-8")
    _pip(python, "install", "--constraint", str(constraints), "--editable", f".[{EXTRAS}]")
    if version == NIGHTLY:  # which has another name, and the same files
        _pip(python, "uninstall", "--yes", "flwr")
        _pip(python, "install", "--force-reinstall", "--no-deps", f"flwr-nightly=={flower.version}")
        _pip(python, "install", "--constraint", str(constraints), f"flwr-nightly=={flower.version}")
    done.write_text(wanted, encoding="utf-8")
    return flower.version


def _look_up(python: Path, version: str) -> Flower:
    """Ask pip which release a version stands for, and what that one requires."""
    asked = ("install", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", requirement_of(version))
    pre = ("--pre",) if version == NIGHTLY else ()
    (found,) = json.loads(_pip(python, *asked, *pre))["install"]
    metadata = found["metadata"]
    return Flower(metadata["version"], tuple(Requirement(text) for text in metadata.get("requires_dist", ())))


def _pip(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _pytest(python: Path, *arguments: str) -> int:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(python), "-m", "pytest", "-p", "no:cacheprovider", *arguments], cwd=ROOT, env=environ).returncode


if __name__ == "__main__":
    sys.exit(main())
