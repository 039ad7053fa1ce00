"""Sums over accepted updates, and the projection of the paper's line 6; pure functions of tensors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flwr_robustcomp.compressors import vector_norm, working_dtype
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.spans import Span
from flwr_robustcomp.strategies.replies.screening import Update

__all__ = ["is_finite_model", "median_aside", "median_delta", "project", "step_length", "weighted_sum"]


def weighted_sum(updates: Sequence[Update], weights: Sequence[float], layout: Layout, spans: Sequence[Span]) -> Tensor:
    """Return sum_i weights[i] * Q(x_i), shape (d,), straight from the packed payloads."""
    total = torch.zeros(layout.dim, dtype=working_dtype(layout.dtype))
    for index, span in enumerate(spans):
        span.compressor.accumulate(total[span.start : span.stop], [u.payloads[index] for u in updates], weights)
    return total


def median_aside(updates: Sequence[Update], layout: Layout) -> dict[str, Tensor]:
    """Return the elementwise lower median of the arrays that travelled uncompressed.

    Parameters
    ----------
    updates : sequence of Update
        All that were accepted, and not what a filter kept: filters do not look at these arrays, and where one spends its budget
        on honest updates, liars can be the majority of the kept.
    layout : Layout
        Of the model.

    Notes
    -----
    A median keeps the dtype, is a value that some node sent, and lies within the range of the honest nodes' values while
    they are the majority; a mean of counters is none of these.
    """
    return {
        slot.name: torch.stack([u.aside[slot.name] for u in updates])
        .to(_SORTABLE.get(slot.dtype, slot.dtype))
        .median(dim=0)
        .values.to(slot.dtype)
        for slot in layout.uncompressed
    }


def median_delta(updates: Sequence[Update]) -> float | None:
    """Return the lower median of the deltas that clients told, None if none did.

    Told, not checked: a minority can move it within the range of the others, and nothing is decided by it.
    """
    deltas = [update.delta for update in updates if update.delta is not None]
    return statistics.median_low(deltas) if deltas else None


def is_finite_model(model: Mapping[str, Tensor]) -> bool:
    """Whether no floating array of a model has NaN or infinity."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in model.values() if tensor.is_floating_point())


def step_length(before: Mapping[str, Tensor], after: Mapping[str, Tensor], layout: Layout) -> float:
    """Return the l2 distance between two models, over the arrays that are compressed: batch statistics always move."""
    return math.hypot(*(vector_norm(after[slot.name] - before[slot.name], 2) for slot in layout.compressed))


# Types whose median torch lacks. A uint64 above 2**63 turns negative, which can only make it another outlier.
_SORTABLE = {torch.bool: torch.uint8, torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


def project(w: Tensor, radius: float | None) -> Tensor:
    """Return the point of the l2 ball of this radius about the origin that is nearest to w, shape (d,)."""
    if radius is None:
        return w
    norm = vector_norm(w, 2)
    return w if norm <= radius else w * (radius / norm)
