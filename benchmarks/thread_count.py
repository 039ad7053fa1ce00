"""A plugin of pytest: as many threads as OMP_NUM_THREADS said when pytest began; the tests' own settings make it one."""

from __future__ import annotations

import os

import numpy as np  # noqa: F401 (its BLAS reads the variable when it is loaded, which is before the tests set it to one)
import torch

THREADS = int(os.environ["OMP_NUM_THREADS"])


def pytest_sessionstart() -> None:
    """Undo what the tests' own settings did to torch."""
    torch.set_num_threads(THREADS)


def pytest_report_header() -> str:
    """Say what the libraries run with."""
    return f"torch {torch.backends.cpu.get_cpu_capability()} with {torch.get_num_threads()} threads"
