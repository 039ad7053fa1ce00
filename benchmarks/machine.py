"""What the figures were measured on: cores, processor and versions; nothing that names the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = ["cores", "describe"]

_PACKAGES = ("flwr-robustcomp", "flwr", "numpy", "ray", "torch")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> list[str]:
    """Return one line for the machine and one for the versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return [f"{cores()} cores, {_processor()}", f"Python {platform.python_version()}, {versions}"]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
