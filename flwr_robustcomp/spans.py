"""Compressing and decompressing the vectors that a layout names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.layout import Span

__all__ = ["DELTA_METRIC", "compress_rows", "compress_spans", "decompress_rows", "decompress_spans", "measured_deltas"]

DELTA_METRIC = "robustcomp.delta"
"""The metric in which a client tells the delta that it measured; strategies publish the median under the same name."""


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


def measured_deltas(rows: Tensor, residuals: Tensor) -> list[float]:
    """Return 1 - ||Q(p) - p||^2 / ||p||^2 for k vectors at once.

    Parameters
    ----------
    rows : Tensor, shape (k, d)
        The vectors p.
    residuals : Tensor, shape (k, d)
        p - Q(p).

    Returns
    -------
    list of float
        k of them, each a function of its own row alone, bit for bit; not finite where ||p|| = 0 and Q(0) is not 0, or where a
        square overflows. 1 where p and Q(p) are both zero.
    """
    scale, lost = (_squares(x) for x in (rows, residuals))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        deltas: list[float] = np.where((scale == 0) & (lost == 0), 1.0, 1.0 - lost / scale).tolist()
    return deltas


def _squares(rows: Tensor) -> npt.NDArray[np.float64]:
    """Return the squared norm of each row: one BLAS product a row, so that a row's number does not depend on the others."""
    x = rows.double().numpy()
    squares: npt.NDArray[np.float64] = np.vecdot(x, x)
    return squares
