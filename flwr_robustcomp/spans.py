"""Compressing and decompressing the vectors that a layout names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.compressors.sums import squares
from flwr_robustcomp.layout import Span

__all__ = ["DELTA_METRIC", "compress_rows", "compress_spans", "decompress_rows", "decompress_spans", "measured_deltas"]

DELTA_METRIC = "robustcomp.delta"
"""The metric in which a client tells the delta that it measured; strategies publish the median under the same name."""

_FINE = 4
"""Bytes of an entry whose rounding does not show in a delta."""


def compress_spans(x: Tensor, spans: Sequence[Span], compressor: Compressor, rng: np.random.Generator | None) -> list[Payload]:
    """Compress the parts of a vector, shape (d,), that the spans name."""
    return [compressor.compress(x[s.start : s.stop].to(s.dtype).reshape(s.shape), rng) for s in spans]


def decompress_spans(payloads: Sequence[Payload], compressor: Compressor, dtype: torch.dtype) -> Tensor:
    """Return Q(x), shape (d,), from the payloads of all spans."""
    parts = [compressor.decompress(p).reshape(-1).to(dtype) for p in payloads]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def compress_rows(
    rows: Tensor, spans: Sequence[Span], compressor: Compressor, rngs: Sequence[np.random.Generator | None]
) -> list[tuple[Payload, ...]]:
    """Compress k vectors at once, shape (k, d); the same payloads as k calls of `compress_spans`."""
    columns = [
        compressor.compress_rows(rows[:, s.start : s.stop].to(s.dtype).reshape(len(rows), *s.shape), rngs) for s in spans
    ]
    return list(zip(*columns, strict=True))


def decompress_rows(
    payloads: Sequence[Sequence[Payload]], spans: Sequence[Span], compressor: Compressor, dtype: torch.dtype
) -> Tensor:
    """Return Q(x) of k vectors, shape (k, d)."""
    parts = [compressor.decompress_rows([p[i] for p in payloads]).to(dtype) for i in range(len(spans))]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def measured_deltas(
    rows: Tensor,
    payloads: Sequence[Sequence[Payload]],
    spans: Sequence[Span],
    compressor: Compressor,
    residuals: Tensor | None = None,
) -> list[float]:
    """Return 1 - ||Q(p) - p||^2 / ||p||^2 for k vectors at once.

    Parameters
    ----------
    rows : Tensor, shape (k, d)
        The vectors p, in working precision.
    payloads : sequence of sequence of Payload, k of them, one for each span
        Q(p).
    spans, compressor
        What made them.
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
        if compressor.projects and all(span.dtype.itemsize >= _FINE for span in spans):
            kept = np.square([[compressor.norm(payload) for payload in packed] for packed in payloads]).sum(axis=1)
            shares = np.where(np.isfinite(scale), np.minimum(kept / scale, 1.0), math.nan)
            deltas = np.where((scale == 0) & (kept == 0), 1.0, shares).tolist()
        else:
            if residuals is None:
                residuals = rows - decompress_rows(payloads, spans, compressor, rows.dtype)
            lost = squares(residuals.numpy())
            deltas = np.where((scale == 0) & (lost == 0), 1.0, 1.0 - lost / scale).tolist()
    return deltas
