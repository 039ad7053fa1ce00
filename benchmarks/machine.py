"""The machine: free ports, and what figures were measured on (cores, processor, versions; nothing that names it)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import socket
from importlib.metadata import version
from pathlib import Path

__all__ = ["cores", "describe", "free_ports"]

_PACKAGES = ("flwr-robustcomp", "flwr", "numpy", "ray", "torch")
_OPTIONAL = ("byzfl",)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> list[str]:
    """Return one line for the machine and one for the versions."""
    packages = [*_PACKAGES, *(name for name in _OPTIONAL if importlib.util.find_spec(name) is not None)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [f"{cores()} cores, {_processor()}", f"Python {platform.python_version()}, {versions}"]


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
