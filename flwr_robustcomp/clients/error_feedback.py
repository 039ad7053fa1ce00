"""Error feedback: what compression dropped is added to the next update (Algorithm 3; Karimireddy et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from flwr_robustcomp.clients.node_vector import NodeVector
from flwr_robustcomp.compressors import Payload
from flwr_robustcomp.spans import Span, compress_rows, decompress_rows

__all__ = ["RESIDUAL", "compress_with_feedback"]

RESIDUAL = NodeVector("robustcomp.residual", "e", "Residual")
"""e, which a node keeps between rounds."""


def compress_with_feedback(
    rows: Tensor, residuals: Sequence[Tensor | None], spans: Sequence[Span], rngs: Sequence[np.random.Generator | None]
) -> tuple[list[tuple[Payload, ...]], Tensor]:
    """Take one step of error feedback for k nodes.

    Parameters
    ----------
    rows : Tensor, shape (k, d)
        The updates x. They become p = x + e in place.
    residuals : sequence of Tensor, shape (d,), or None; k of them
        e, what earlier rounds dropped; None stands for zero.
    spans : sequence of Span
        The vectors that are compressed.
    rngs : sequence of numpy.random.Generator or None; k of them
        For randomized compressors.

    Returns
    -------
    payloads : list of tuple of Payload
        Q(p) of each node, one payload for each span.
    residuals : Tensor, shape (k, d)
        e' = p - Q(p), so that sent + e' = x + e to the rounding of one addition.
    """
    for row, residual in zip(rows, residuals, strict=True):
        if residual is not None:
            row.add_(residual)
    payloads = compress_rows(rows, spans, rngs)
    return payloads, rows - decompress_rows(payloads, spans, rows.dtype)
