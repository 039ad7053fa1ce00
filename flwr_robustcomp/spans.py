"""The vectors that a round compresses, and what compresses and decompresses them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.compressors.sums import squares

__all__ = [
    "DELTA_METRIC",
    "Span",
    "compress_rows",
    "compress_spans",
    "decompress_rows",
    "decompress_spans",
    "draws",
    "measured_deltas",
]

DELTA_METRIC = "robustcomp.delta"
"""The metric in which a client tells the delta that it measured; strategies publish the median under the same name."""

_FINE = 4
"""Bytes of an entry whose rounding does not show in a delta."""


@dataclass(frozen=True, slots=True)
class Span:
    """One vector that is compressed.

    Attributes
    ----------
    name : str or None
        Of the array; None for the whole model.
    shape : tuple of int
        As it is compressed.
    dtype : torch.dtype
        As it is compressed.
    start, stop : int
        Its place in the flat vector, shape (d,).
    compressor : Compressor
        Q of this vector in this round.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int
    stop: int
    compressor: Compressor


def compress_spans(x: Tensor, spans: Sequence[Span], rng: np.random.Generator | None) -> list[Payload]:
    """Compress the parts of a vector, shape (d,), that the spans name."""
    return [s.compressor.compress(x[s.start : s.stop].to(s.dtype).reshape(s.shape), rng) for s in spans]


def decompress_spans(payloads: Sequence[Payload], spans: Sequence[Span], dtype: torch.dtype) -> Tensor:
    """Return Q(x), shape (d,), from the payloads of all spans."""
    parts = [s.compressor.decompress(p).reshape(-1).to(dtype) for s, p in zip(spans, payloads, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def compress_rows(rows: Tensor, spans: Sequence[Span], rngs: Sequence[np.random.Generator | None]) -> list[tuple[Payload, ...]]:
    """Compress k vectors at once, shape (k, d); the same payloads as k calls of `compress_spans`."""
    columns = [
        s.compressor.compress_rows(rows[:, s.start : s.stop].to(s.dtype).reshape(len(rows), *s.shape), rngs) for s in spans
    ]
    return list(zip(*columns, strict=True))


def decompress_rows(payloads: Sequence[Sequence[Payload]], spans: Sequence[Span], dtype: torch.dtype) -> Tensor:
    """Return Q(x) of k vectors, shape (k, d)."""
    parts = [s.compressor.decompress_rows([p[i] for p in payloads]).to(dtype) for i, s in enumerate(spans)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def draws(spans: Sequence[Span]) -> bool:
    """Whether compressing these vectors needs a generator."""
    return any(span.compressor.randomized for span in spans)


def measured_deltas(
    rows: Tensor,
    payloads: Sequence[Sequence[Payload]],
    spans: Sequence[Span],
    residuals: Tensor | None = None,
) -> list[float]:
    """Return 1 - ||Q(p) - p||^2 / ||p||^2 for k vectors at once.

    Parameters
    ----------
    rows : Tensor, shape (k, d)
        The vectors p, in working precision.
    payloads : sequence of sequence of Payload, k of them, one for each span
        Q(p).
    spans : sequence of Span
        The vectors that were compressed.
    residuals : Tensor, shape (k, d), optional
        p - Q(p), where it is known already.

    Returns
    -------
    list of float
        k of them, each a function of its own row alone, bit for bit; not finite where ||p|| = 0 and Q(0) is not 0, or where a
        square overflows. 1 where p and Q(p) are both zero.

    Notes
    -----
    A compressor that projects is not unpacked: there the delta is ||Q(p)||^2 / ||p||^2, equal up to the rounding of the
    payload's dtype. Where that is coarse (half types), the error itself is measured.
    """
    scale = squares(rows.numpy())
    deltas: list[float]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if all(span.compressor.projects and span.dtype.itemsize >= _FINE for span in spans):
            norms = [[s.compressor.norm(payload) for s, payload in zip(spans, packed, strict=True)] for packed in payloads]
            kept = np.square(norms).sum(axis=1)
            shares = np.where(np.isfinite(scale), np.minimum(kept / scale, 1.0), math.nan)
            deltas = np.where((scale == 0) & (kept == 0), 1.0, shares).tolist()
        else:
            if residuals is None:
                residuals = rows - decompress_rows(payloads, spans, rows.dtype)
            lost = squares(residuals.numpy())
            deltas = np.where((scale == 0) & (lost == 0), 1.0, 1.0 - lost / scale).tolist()
    return deltas
