"""Every compressor measured here and now: bits, entropy, delta on three vectors, and speed beside a memory copy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.problems import Digits
from flwr_robustcomp.theory.catalogue import CATALOGUE, Entry, label

__all__ = ["COLUMNS", "Measured", "as_markdown", "cells", "measure"]

_PIXELS, _CLASSES = 64, 10
_SECONDS, _REPETITIONS = 0.15, 9
"""A timing is the shortest of up to nine runs, and of fewer where they take longer than this together."""


@dataclass(frozen=True)
class Measured:
    """One row.

    Attributes
    ----------
    compressor : Compressor
        The configuration.
    bits : float
        Packed bits a coordinate, header included, of the Gaussian vector.
    entropy : float
        Bits a coordinate that its symbols are worth (`theory.catalogue`).
    guaranteed : float or None
        `Compressor.delta_of` the Gaussian vector's shape.
    gaussian, heavy, gradient : float
        1 - ||Q(x) - x||^2 / ||x||^2 on the three vectors, one draw.
    encode, decode : float
        Seconds, of the Gaussian vector; decoding includes every check of a foreign payload.
    copy : float
        Seconds of a plain copy of the same dense vector.
    dense : int
        Its bytes.
    """

    compressor: Compressor
    bits: float
    entropy: float
    guaranteed: float | None
    gaussian: float
    heavy: float
    gradient: float
    encode: float
    decode: float
    copy: float
    dense: int


COLUMNS = (
    "compressor",
    "bits",
    "entropy",
    "guaranteed",
    "Gaussian",
    "heavy",
    "gradient",
    "unbiased",
    "C_norm",
    "encode (copies)",
    "decode (copies)",
)
"""Of the table, in the terminal and in docs/compressors.md, which explains them."""


def measure(dimension: int, advance: Callable[[], None] = lambda: None) -> list[Measured]:
    """Measure the catalogue.

    Parameters
    ----------
    dimension : int
        d of the vectors, in [100, 10^7]; a gradient's is the nearest that a network of the digits has.
    advance : callable
        Called after each row.

    Notes
    -----
    The vectors: standard normal; Student's t with 3 degrees of freedom; the gradient of the digits network (`problems.digits`)
    at its first weights on all training images. Where a compressor is for matrices (`Entry.matrix`), the first two are
    reshaped to the most nearly square matrix of their size, and the gradient is that of the hidden layer's weights.
    """
    require(100 <= dimension <= 10**7, "dimension", dimension, "in [100, 10**7]")
    rng = generator(0, "compressor table")
    gaussian = torch.from_numpy(rng.standard_normal(dimension, dtype=np.float32))
    heavy = torch.from_numpy(rng.standard_t(3, dimension).astype(np.float32))
    gradients = _gradients(dimension)
    source, target = gaussian.numpy(), np.empty(dimension, np.float32)
    copy = _seconds(lambda: np.copyto(target, source))
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # a client has few cores, and a table made beside other work should not depend on it
    try:
        for entry in CATALOGUE.values():
            vectors = _shaped(entry, gaussian, heavy, gradients)
            for compressor in entry.configurations:
                rows.append(_row(compressor, entry, *vectors, copy))
                advance()
    finally:
        torch.set_num_threads(threads)
    return rows


def _row(compressor: Compressor, entry: Entry, gaussian: Tensor, heavy: Tensor, gradient: Tensor, copy: float) -> Measured:
    rng = generator(1, "compressor table")
    payload = compressor.compress(gaussian, rng)
    array = wire.pack(payload, compressor)
    shape, dtype, d = tuple(gaussian.shape), gaussian.dtype, gaussian.numel()
    return Measured(
        compressor,
        8 * len(wire.packed_fields(payload, compressor)[3]) / d,
        entry.entropy(compressor, payload) / d,
        compressor.delta_of(shape),
        gaussian=compressor.measured_delta(gaussian, rng),
        heavy=compressor.measured_delta(heavy, rng),
        gradient=compressor.measured_delta(gradient, rng),
        encode=_seconds(lambda: wire.pack(compressor.compress(gaussian, rng), compressor)),
        decode=_seconds(lambda: compressor.decompress(wire.read_packed(array, compressor, shape, dtype))),
        copy=copy,
        dense=d * dtype.itemsize,
    )


def cells(row: Measured) -> tuple[str, ...]:
    """Return a row in the order of `COLUMNS`."""
    compressor = row.compressor
    kind = "" if compressor.pointwise else " mean"
    return (
        label(compressor),
        f"{row.bits:.3g}",
        f"{row.entropy:.3g}",
        "none" if row.guaranteed is None else f"{row.guaranteed:.3g}{kind}",
        *(f"{delta:.3g}" for delta in (row.gaussian, row.heavy, row.gradient)),
        "yes" if compressor.unbiased else "no",
        "yes" if compressor.embeds_norm else "no",
        *(
            f"{row.dense / s / 1e6:,.0f} ({s / row.copy:,.{1 if s < 9.95 * row.copy else 0}f})"
            for s in (row.encode, row.decode)
        ),
    )


def as_markdown(rows: list[Measured], dimension: int) -> str:
    """Return the page that docs/compressors.md is."""
    gradient = sum(tensor.numel() for tensor in _gradients(dimension).values())
    lines = [
        "# Compressors, measured",
        "",
        "Written by `make compressors` (`robustcomp compressors --markdown docs/compressors.md`), not edited by hand. Bits",
        "and deltas are the same everywhere up to rounding; speeds are those of one machine's one thread, that day.",
        "",
        f"One vector of d = {dimension:,} float32.",
        "",
        "- *bits*: packed, header included, a coordinate. *entropy*: what the symbols are worth to an ideal coder, as",
        "  `theory/catalogue.py` defines it for each family.",
        '- *guaranteed*: the delta of Definition 4, for every x; "mean" where it holds in expectation over the draws.',
        "- *Gaussian*, *heavy*, *gradient*: 1 - ||Q(x) - x||^2 / ||x||^2 of one draw, on a Gaussian vector, Student's t with",
        f"  3 degrees of freedom, and on a gradient of the network on the digits, d = {gradient:,}.",
        "- *unbiased*: E[Q(x)] = x. *C_norm*: the norm can be read from Q(x) (section 3).",
        "- *encode*: `compress` and `wire.pack`. *decode*: `wire.read_packed`, with every check of a foreign payload, and",
        "  `decompress`. MB/s of dense float32, and in brackets how many times as long as a memory copy of the vector.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" + "|--:" * (len(COLUMNS) - 1) + "|",
    ]
    lines += ["| " + " | ".join((f"`{first}`", *rest)) + " |" for first, *rest in map(cells, rows)]
    return "\n".join(lines) + "\n"


def _gradients(dimension: int) -> dict[str, Tensor]:
    """Return the gradient of a digits network of about this many parameters, (64 + 1 + 10) h + 10, by array."""
    hidden = max(2, round((dimension - _CLASSES) / (_PIXELS + 1 + _CLASSES)))
    problem = Digits(1, 0, hidden=hidden)
    return problem.gradient(0, problem.initial(), lambda labels, classes: labels)


def _shaped(entry: Entry, gaussian: Tensor, heavy: Tensor, gradients: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    if not entry.matrix:
        return gaussian, heavy, torch.cat([tensor.reshape(-1) for tensor in gradients.values()])
    d = gaussian.numel()
    rows = next(n for n in range(math.isqrt(d), 0, -1) if d % n == 0)
    return gaussian.reshape(rows, -1), heavy.reshape(rows, -1), gradients["hidden.weight"]


def _seconds(call: Callable[[], object]) -> float:
    """Return the shortest time of a call, after one that warms up: what else the machine does only adds to it."""
    call()
    taken: list[float] = []
    while len(taken) < _REPETITIONS and (not taken or sum(taken) < _SECONDS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)
