"""`inner_products` of packed vectors beside blocks of decompressed rows; where a sparse product stops to pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.report import Section, Table, milliseconds, times
from flwr_robustcomp.compressors import (
    Compressor,
    Drive,
    L1Sign,
    Payload,
    RandomK,
    RotatedQuantizer,
    SparseTernary,
    TernGrad,
    TopK,
)
from flwr_robustcomp.compressors import sparse_products as sparse
from flwr_robustcomp.compressors.products import dense_products

__all__ = ["measure"]

_DENSITIES = (0.001, 0.01, 0.03, 0.06, 0.1)
COMPRESSORS: tuple[Compressor, ...] = (
    L1Sign(),
    TopK(ratio=0.01),
    TopK(ratio=0.01, coding="fixed"),
    TopK(ratio=0.1, coding="fixed"),
    RandomK(ratio=0.01),
    SparseTernary(ratio=0.01),
    TernGrad(),
    TernGrad(coding="fixed"),
    Drive(),
    RotatedQuantizer(),
)


def measure(quick: bool) -> Section:
    """Measure both tables."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tables = [_compressors(quick), _densities(quick)]
    finally:
        torch.set_num_threads(threads)
    return Section(
        "Inner products of packed updates",
        "The m x m inner products of Gaussian updates (float32), decoding included in the first table and left out in the "
        "second. *Dense blocks* is what a compressor without a form of its own gets: blocks of rows, decompressed and "
        "multiplied in double precision, each block once for every one before it. The second table is where the limit in "
        "`compressors/sparse_products.py` comes from: *sparse* multiplies entries, *dense* writes blocks of columns out; "
        "*apart* is positions drawn for each vector, *together* the same for all. By turns, smallest of several, one thread.",
        tables,
    )


def _best(cases: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Return the smallest time of each of some cases, which take turns."""
    found = dict.fromkeys(cases, np.inf)
    for _ in range(repetitions):
        for name, run in cases.items():
            started = time.perf_counter()
            run()
            found[name] = min(found[name], time.perf_counter() - started)
    return found


def _compressors(quick: bool) -> Table:
    m, d, repetitions = (8, 10_000, 1) if quick else (30, 795_010, 2)
    rows = []
    for compressor in COMPRESSORS:
        payloads = []
        for node in range(m):
            rng = np.random.default_rng(node)
            payloads.append(compressor.compress(torch.from_numpy(rng.standard_normal(d, dtype=np.float32)), rng))
        cases = {"packed": _packed(compressor, payloads), "dense": _dense(compressor, payloads)}
        seconds = _best(cases, repetitions)
        ratio = times(seconds["dense"] / seconds["packed"])
        rows.append((str(compressor), milliseconds(seconds["packed"]), milliseconds(seconds["dense"]), ratio))
    return Table(f"{m} payloads, d = {d:,}", ("compressor", "from the packed form", "dense blocks", "dense / packed"), rows)


def _packed(compressor: Compressor, payloads: list[Payload]) -> Callable[[], Any]:
    return lambda: compressor.inner_products(payloads)


def _dense(compressor: Compressor, payloads: list[Payload]) -> Callable[[], Any]:
    return lambda: dense_products(compressor.decompress_rows, payloads, None)


def _densities(quick: bool) -> Table:
    m, d, repetitions = (20, 20_000, 1) if quick else (200, 795_010, 2)
    rows = []
    for density in _DENSITIES:
        k = max(1, round(density * d))
        row = [f"{100 * density:g} %"]
        for together in (False, True):
            entries = _entries(m, d, k, together)
            chosen = sparse.DENSE
            cases = {name: _written_out(limit, entries, d) for name, limit in (("sparse", 2.0), ("dense", 0.0), ("", chosen))}
            seconds = _best(cases, repetitions)
            row += [milliseconds(seconds["sparse"]), milliseconds(seconds["dense"]), milliseconds(seconds[""])]
        rows.append(tuple(row))
    names = [f"{place}: {form}" for place in ("apart", "together") for form in ("sparse", "dense", "as chosen")]
    return Table(f"{m} sparse vectors, d = {d:,}", ("entries", *names), rows)


def _entries(m: int, d: int, k: int, together: bool) -> list[sparse.Entries]:
    rng = np.random.default_rng(0)
    same = np.sort(rng.permutation(d)[:k])
    positions = [same if together else np.sort(rng.permutation(d)[:k]) for _ in range(m)]
    return [(where, rng.standard_normal(k, dtype=np.float32)) for where in positions]


def _written_out(limit: float, entries: list[sparse.Entries], d: int) -> Callable[[], Any]:
    """Return the products with blocks written out above a share of entries."""
    numbered = [Payload((d,), torch.float32, (i,), b"") for i in range(len(entries))]

    def run() -> Any:
        return sparse.sparse_products(
            lambda p: entries[int(p.scalars[0])], numbered, [e[0].size for e in entries], None, dense=limit
        )

    return run
