"""Compressing and decompressing the vectors that a layout names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.layout import Span

__all__ = ["compress_rows", "compress_spans", "decompress_rows", "decompress_spans"]


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
