from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flwr_robustcomp.simulations.engines.ray_session import ray_session


@pytest.fixture(scope="module")
def ray_dir() -> Iterator[None]:
    """Let every Ray that the module's tests start keep its files in one folder, which goes with them."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray puts Unix sockets (107 bytes at most) under it: pytest's own folders are too deep.
        folder = tempfile.mkdtemp(prefix="rct-", dir="/tmp")
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_prestart_worker_first_driver", "0")  # idle workers that no actor uses
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray(ray_dir: None) -> Iterator[Any]:
    """One Ray for all tests of a module: starting it costs seconds."""
    with ray_session(num_cpus=2) as module:
        yield module


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that is there once the module ``robustcomp_trap`` was imported."""
    path = tmp_path / "imported"
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "robustcomp_trap.py").write_text(f"open({str(path)!r}, 'w').close()\nclass Trap: name = 'trap'\n")
    monkeypatch.syspath_prepend(modules)
    yield path
    sys.modules.pop("robustcomp_trap", None)
