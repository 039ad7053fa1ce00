"""The numerical tests, and a digest of every number, under settings that stand for other machines: `make test-machines`.

A processor differs from another in what its kernels add first. Threads, torch's vector width and numpy's can be set, and each
setting is a machine of its own. What steers BLAS itself is left as the machine has it.

Each setting runs in processes of its own, because the libraries read it when they are loaded. The digests say which results are
the same bit for bit under all settings, and which are not; for the latter docs/adr/0029-arithmetic.md has the tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Setting", "main", "settings"]

ROOT = Path(__file__).resolve().parent.parent

TESTS = (
    "tests/machines",
    "tests/compressors",
    "tests/filters",
    "tests/theory",
    "tests/test_layout.py",
    "tests/test_spans.py",
    "tests/test_wire.py",
    "tests/strategies/test_sort_norm.py",
    "tests/strategies/test_robust_compressed.py",
    "tests/strategies/test_server_step.py",
    "tests/strategies/test_sketch.py",
    "tests/simulations/engines/test_batch.py",
    "tests/checkpoints/test_checkpointed.py",
)
"""What computes, and what promises the same curve: batched clients, resumed runs."""

SLOW = ("tests/compressors/test_fuzz.py",)
"""Left out: they count on no arithmetic but the processor's integers."""

_RANKS = {"DEFAULT": 0, "AVX2": 1, "AVX512": 2}
_WIDE = re.compile("AVX512|X86_V4")


@dataclass(frozen=True)
class Setting:
    """What the libraries are told before they are loaded.

    Parameters
    ----------
    name : str
        For the table.
    threads : int
        Of BLAS and of torch.
    torch : str, optional
        ATEN_CPU_CAPABILITY: the widest vectors that torch may use.
    without : tuple of str
        NPY_DISABLE_CPU_FEATURES: what numpy must do without.
    """

    name: str
    threads: int = 1
    torch: str | None = None
    without: tuple[str, ...] = field(default=())

    @property
    def environment(self) -> dict[str, str]:
        """The variables."""
        found = {"OMP_NUM_THREADS": str(self.threads)}
        if self.torch:
            found["ATEN_CPU_CAPABILITY"] = self.torch
        if self.without:
            found["NPY_DISABLE_CPU_FEATURES"] = " ".join(self.without)
        return found


def settings(capability: str, features: Sequence[str], cores: int) -> list[Setting]:
    """Return the settings of a processor.

    Parameters
    ----------
    capability : str
        The widest vectors that torch uses: DEFAULT, AVX2, AVX512, or that of another architecture.
    features : sequence of str
        What numpy chooses among at run time and finds in this processor. It warns of others, and a warning is an error.
    cores : int
        With one only, two threads are no setting.

    Examples
    --------
    >>> from benchmarks.machines import settings
    >>> [one.name for one in settings("AVX2", ["X86_V3"], 2)]
    ['as it is', 'two threads', 'torch default', 'numpy baseline', 'all of these']
    """
    narrower = [name.lower() for name, rank in _RANKS.items() if rank < _RANKS.get(capability, 0)]
    wide = tuple(name for name in features if _WIDE.match(name))
    found = [Setting("as it is")]
    if cores > 1:
        found.append(Setting("two threads", threads=2))
    found += [Setting(f"torch {name}", torch=name) for name in narrower]
    if wide and len(wide) < len(features):
        found.append(Setting("numpy without AVX-512", without=wide))
    if features:
        found.append(Setting("numpy baseline", without=tuple(features)))
    if len(found) > 2:
        found.append(Setting("all of these", min(2, cores), narrower[0] if narrower else None, tuple(features)))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run all settings in turn; return 1 if a test failed anywhere."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machines", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", help="this setting only; can be repeated")
    parser.add_argument("--digests", action="store_true", help="no tests, the digests only")
    parser.add_argument("--workers", default="2", help="processes that run tests (default: 2)")
    parser.add_argument("--tests", metavar="PATH", nargs="+", default=TESTS, help="these tests only")
    options = parser.parse_args(argv)
    chosen = [one for one in _settings() if not options.only or one.name in options.only]
    if not chosen:
        parser.error(f"--only must name one of: {', '.join(one.name for one in _settings())}")
    failed, first = False, None
    for setting in chosen:
        start = time.monotonic()
        digests = _digests(setting)
        first = first or digests
        same = [name for name in first if digests.get(name) == first[name]]
        line, details = ("no tests", []) if options.digests else _tests(setting, options.tests, options.workers)
        failed |= bool(details)
        shown = " ".join(f"{key}={value!r}" for key, value in setting.environment.items())
        agreed = f"{len(same)} of {len(first)} digests as in the first"
        print(f"{setting.name:<22} {line}; {agreed}  [{time.monotonic() - start:.0f} s]  {shown}")
        for group, names in _by_group(sorted(set(first) - set(same))).items():
            print(f"    other last bits in {group}: {', '.join(names)}")
        print("".join(f"    {detail}\n" for detail in details), end="", flush=True)
    return int(failed)


def _settings() -> list[Setting]:
    return settings(torch.backends.cpu.get_cpu_capability(), _features(), os.cpu_count() or 1)


def _features() -> list[str]:
    """Return what numpy dispatches on and this processor has; numpy tells it in private only."""
    core: Any = getattr(np, "_core", None)
    core = getattr(core, "_multiarray_umath", None)
    have = getattr(core, "__cpu_features__", {})
    return [name for name in getattr(core, "__cpu_dispatch__", []) if have.get(name)]


def _environment(setting: Setting) -> dict[str, str]:
    return {**os.environ, **setting.environment, "PYTHONHASHSEED": "0"}


def _digests(setting: Setting) -> dict[str, str]:
    command = [sys.executable, "-W", "error::ImportWarning", "-m", "benchmarks.digests"]
    done = subprocess.run(command, cwd=ROOT, env=_environment(setting), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"digests under {setting.name!r}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _tests(setting: Setting, paths: Sequence[str], workers: str) -> tuple[str, list[str]]:
    """Return pytest's own count, and a line for each test that failed; one line at least where pytest itself did."""
    options = ["-p", "benchmarks.thread_count", "-p", "no:cacheprovider", "-q", "--tb=line", "-n", workers]
    left_out = [f"--ignore={path}" for path in SLOW]
    command = [sys.executable, "-m", "pytest", *options, *left_out, "-m", "not processes and not deployment", *paths]
    done = subprocess.run(command, cwd=ROOT, env=_environment(setting), capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or ["pytest wrote nothing"]
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failures:
        failures = [lines[-1], *done.stderr.strip().splitlines()[-1:]]
    return re.sub(r" in [\d.]+s.*", "", lines[-1]), failures


def _by_group(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        group, _, rest = name.partition(": ")
        found.setdefault(group, []).append(rest)
    return found


if __name__ == "__main__":
    sys.exit(main())
