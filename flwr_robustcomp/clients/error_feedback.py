"""Error feedback: what compression dropped is added to the next update (Algorithm 3; Karimireddy et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import Span
from flwr_robustcomp.spans import compress_spans, decompress_spans

__all__ = ["RESIDUAL_RECORD", "compress_with_feedback", "load_residual", "residual_record", "store_residual"]

RESIDUAL_RECORD = "robustcomp.residual"
"""Name of the ArrayRecord in `Context.state` that keeps e between rounds."""


def compress_with_feedback(
    x: Tensor, residual: Tensor | None, spans: Sequence[Span], compressor: Compressor, rng: np.random.Generator | None
) -> tuple[Tensor, list[Payload], Tensor]:
    """Take one step of error feedback; a pure function.

    Parameters
    ----------
    x : Tensor, shape (d,)
        The update.
    residual : Tensor, shape (d,), or None
        e, what earlier rounds dropped; None stands for zero.
    spans : sequence of Span
        The vectors that are compressed.
    compressor : Compressor
        Q.
    rng : numpy.random.Generator, optional
        For randomized compressors.

    Returns
    -------
    p : Tensor, shape (d,)
        x + e, what is compressed.
    payloads : list of Payload
        Q(p), one payload for each span.
    residual : Tensor, shape (d,)
        e' = p - Q(p), so that sent + e' = x + e to the rounding of one addition.
    """
    p = x if residual is None else x + residual
    payloads = compress_spans(p, spans, compressor, rng)
    return p, payloads, p - decompress_spans(payloads, compressor, p.dtype)


def load_residual(state: RecordDict, size: int, dtype: torch.dtype) -> Tensor | None:
    """Return e from a node's state, or None where there is none that fits.

    A residual of another size (the model changed, or the state is another app's) is dropped with a warning.
    """
    record = state.get(RESIDUAL_RECORD)
    if not isinstance(record, ArrayRecord) or "e" not in record:
        return None
    residual = wire.read_dense(record["e"])
    if residual.shape != (size,) or residual.dtype != dtype:
        LOG.warning(
            "Residual of shape %s and dtype %s dropped: the model has d = %d", tuple(residual.shape), residual.dtype, size
        )
        return None
    return residual


def store_residual(state: RecordDict, residual: Tensor) -> None:
    """Keep e in a node's state."""
    state[RESIDUAL_RECORD] = residual_record(residual)


def residual_record(residual: Tensor) -> ArrayRecord:
    """Return e as it is kept in a node's state."""
    record = ArrayRecord()
    record["e"] = wire.to_array(residual)
    return record
