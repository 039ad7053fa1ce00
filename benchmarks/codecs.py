"""Compressing and decompressing one update, in bytes of dense input a second, beside a plain copy of the same bytes."""

from __future__ import annotations

import contextlib
import ctypes
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from flwr.app import Array

from benchmarks.parts.compressors import TYPICAL
from benchmarks.report import Section, Table, Target, milliseconds, times
from flwr_robustcomp import (
    QSGD,
    CrossPolytope,
    Drive,
    Identity,
    L1Sign,
    LowRank,
    RandomK,
    RotatedQuantizer,
    Sign,
    SparseTernary,
    SphericalNet,
    TernGrad,
    TopK,
    wire,
)
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.theory import label

__all__ = ["measure"]

_SHOWN: dict[str, Compressor] = {
    "CrossPolytope(repetitions=1000)": CrossPolytope(repetitions=1000),
    "Drive()": Drive(),
    "Identity()": Identity(),
    "L1Sign()": L1Sign(),
    'LowRank(rank=4, method="power")': LowRank(rank=4, method="power"),
    "QSGD(levels=1)": QSGD(levels=1),
    "QSGD(levels=16)": QSGD(levels=16),
    "QSGD(levels=16, fixed)": QSGD(levels=16, coding="fixed"),
    "RandomK(ratio=0.01)": RandomK(ratio=0.01),
    "RotatedQuantizer(levels=16)": RotatedQuantizer(levels=16),
    "Sign()": Sign(),
    "SparseTernary(ratio=0.01)": SparseTernary(ratio=0.01),
    "SphericalNet()": SphericalNet(),
    "TernGrad()": TernGrad(),
    "TernGrad(fixed)": TernGrad(coding="fixed"),
    "TopK(ratio=0.01)": TopK(ratio=0.01),
    "TopK(ratio=0.01, fixed)": TopK(ratio=0.01, coding="fixed"),
    "TopK(ratio=0.1)": TopK(ratio=0.1),
}

_SEEN = {type(compressor) for compressor in _SHOWN.values()}

_COMPRESSORS = _SHOWN | {label(c): c for c in TYPICAL.values() if type(c) not in _SEEN}
"""Every registered compressor, in the configurations above or as it is without parameters."""

_FIXED = ("L1Sign()", "Sign()", "TernGrad(fixed)", "TopK(ratio=0.01, fixed)")
"""Fixed widths, for speed."""

_CODED = ("QSGD(levels=16)", "SparseTernary(ratio=0.01)", "TernGrad()", "TopK(ratio=0.01)")
"""Entropy-coded, for size."""


def measure(quick: bool) -> Section:
    """Measure every compressor by turns."""
    _keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the copy; a second thread gains little here, and waits long for a core that is not free
    try:
        return _measured(quick)
    finally:
        torch.set_num_threads(threads)


def _measured(quick: bool) -> Section:
    d, repetitions = (10_000, 3) if quick else (795_010, 15)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(d, dtype=np.float32))
    rows = max(n for n in range(1, math.isqrt(d) + 1) if d % n == 0)
    inputs = {name: x.reshape(rows, -1) if c.wants_matrices else x for name, c in _COMPRESSORS.items()}
    rng = np.random.default_rng(1)
    source, target = x.numpy(), np.empty(d, np.float32)
    packed = {name: _write(c, inputs[name], rng) for name, c in _COMPRESSORS.items()}

    copying: list[float] = []
    writing: dict[str, list[float]] = {name: [] for name in _COMPRESSORS}
    reading: dict[str, list[float]] = {name: [] for name in _COMPRESSORS}
    for _ in range(1 + repetitions):
        np.copyto(target, source)
        copying.append(_seconds(lambda: np.copyto(target, source)))
        for name, compressor in _COMPRESSORS.items():
            _read(compressor, _write(compressor, inputs[name], rng), inputs[name])  # after the others, with warm caches
            writing[name].append(_seconds(lambda c=compressor, y=inputs[name]: _write(c, y, rng)))  # type: ignore[misc]
            reading[name].append(_seconds(lambda c=compressor, a=packed[name], y=inputs[name]: _read(c, a, y)))  # type: ignore[misc]

    size = source.nbytes
    copy = statistics.median(copying[1:])  # the first repetition warms up
    lines = [("plain copy", "32", *_columns(copy, copy, size), "", "", "")]
    targets = []
    for name, array in packed.items():
        write, read = (statistics.median(found[name][1:]) for found in (writing, reading))
        if name in _FIXED:
            slower = max(write, read) / copy
            targets.append(Target(f"{name}: write and read, copies", "at most 10x", times(slower), slower <= 10))
        if name in _CODED:
            rate = size / max(write, read) / 1e6
            targets.append(Target(f"{name}: write and read, dense input", "100 MB/s", f"{rate:.0f} MB/s", rate >= 100))
        lines.append((name, f"{8 * len(array.data) / d:.3f}", *_columns(write, copy, size), *_columns(read, copy, size)))
    columns = ("compressor", "bits a coordinate", "write", "GB/s", "copies", "read", "GB/s", "copies")
    return Section(
        "Compressors",
        f"One update of d = {d:,} float32, Gaussian ({size / 1e6:.2f} MB). Write is `wire.pack` of `compress`; read is "
        "`wire.read_packed`, with every check of a foreign payload, and `decompress`. GB/s are dense bytes; copies says how "
        "many times as long as a plain copy of the vector into memory that is there already. "
        f"Low rank sees the same entries as a matrix of {rows} rows. "
        "One thread. "
        f"Each call follows one like it that is not timed; freed memory stays. Median of {repetitions} repetitions, by turns.",
        [Table(f"d = {d:,}", columns, lines)],
        targets,
    )


def _keep_freed_memory() -> None:
    """Let malloc keep what is freed: otherwise some calls pay the kernel for new pages, and others do not."""
    with contextlib.suppress(AttributeError, OSError):  # a C library other than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # glibc refuses more, and says so by its result only


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _write(compressor: Compressor, x: torch.Tensor, rng: np.random.Generator) -> Array:
    return wire.pack(compressor.compress(x, rng), compressor)


def _read(compressor: Compressor, array: Array, x: torch.Tensor) -> torch.Tensor:
    return compressor.decompress(wire.read_packed(array, compressor, tuple(x.shape), x.dtype))


def _columns(seconds: float, copy: float, size: int) -> tuple[str, str, str]:
    return milliseconds(seconds), f"{size / seconds / 1e9:.3g}", times(seconds / copy)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
