"""The norm that an update is sorted by (Algorithms 1 and 2, line 6); pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flwr_robustcomp.compressors import Compressor, Payload

__all__ = ["combine_norms", "sort_norm"]


def combine_norms(norms: Sequence[float], order: float) -> float:
    """Return ||(x_1, ..., x_k)||_q from the norms of the parts."""
    if len(norms) == 1:
        return norms[0]
    if order == math.inf:
        return max(norms)
    return sum(norms) if order == 1 else math.hypot(*norms)  # not fsum, which raises where the sum overflows


def sort_norm(packed: Sequence[tuple[Compressor, Payload]], order: float, reported: float | None = None) -> float:
    """Return the norm that an update is sorted by.

    Parameters
    ----------
    packed : sequence of (Compressor, Payload), at least one
        Q and Q(x), one pair for each vector that was compressed.
    order : float
        q.
    reported : float, optional
        ||x||_q as the client reports it (Algorithm 1); None where the server sorts by ||Q(x)||_q (Algorithm 2).

    Returns
    -------
    float
        ||Q(x)||_q without a report, else the larger of the two norms. A compressor of C_normless has the report alone.

    Notes
    -----
    *Why the larger.* The mean is taken over the Q(x_i), so their length is what must be bounded. Algorithm 1 as printed bounds
    ||x||, and leaves it to the honest compressor that ||Q(x)|| is near it. A sender of its own bytes chooses the draws too:
    one vertex in all draws of `CrossPolytope`, at d = 1000, is 15.8 times as long as the smallest norm that its payload allows.
    Sorted by the larger norm, a kept update is never longer than what it is sorted by. `theory.contraction` has what follows.

    *Why the report counts at all.* It is the norm that the paper sorts by, and an honest ||x|| is most often the larger.

    *C_normless.* The signs of `Sign` have the norm d^(1/q) whatever x is. It would hide every report below it.
    """
    if reported is not None and not all(compressor.embeds_norm for compressor, _ in packed):
        return reported
    length = combine_norms([compressor.norm(payload, order) for compressor, payload in packed], order)
    return length if reported is None else max(reported, length)
