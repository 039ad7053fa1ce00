"""Norm thresholding: keep the (1 - beta) m updates of smallest norm (Algorithms 1 and 2, line 6); pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.errors import require

__all__ = ["Selection", "check_trim", "combine_norms", "keep_smallest", "sort_norm", "trim_count"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome of a filter on m updates.

    Attributes
    ----------
    kept : tuple of int
        Positions of the kept updates, ascending.
    trimmed : tuple of int
        Positions of the others, ascending.
    threshold : float
        The largest kept norm.
    """

    kept: tuple[int, ...]
    trimmed: tuple[int, ...]
    threshold: float


def check_trim(trim: int | float) -> None:
    """Raise unless ``trim`` is a count or a fraction below one half."""
    allowed = "a count (integer >= 0) or a fraction in [0, 0.5)"
    require(isinstance(trim, int | float) and not isinstance(trim, bool), "trim", trim, allowed)
    require(trim >= 0 if isinstance(trim, int) else 0.0 <= trim < 0.5, "trim", trim, allowed)


def trim_count(trim: int | float, m: int) -> int:
    """Return how many of m updates to trim: the count itself, or the fraction of m rounded up.

    The tolerance keeps 0.11 of 200 at 22, although 0.11 * 200 is 22.000000000000004.
    """
    return trim if isinstance(trim, int) else math.ceil(trim * m - 1e-9)


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


def keep_smallest(norms: Sequence[float], trim: int) -> Selection:
    """Keep the m - trim smallest norms; equal norms are kept in the order given.

    Parameters
    ----------
    norms : sequence of float, m of them
        Finite, non-negative.
    trim : int
        How many of the largest to drop, in [0, m/2).

    Returns
    -------
    Selection
        With len(kept) == m - trim.

    Raises
    ------
    ConfigurationError
        If trim is negative or at least m/2: with half or more of the replies gone, nothing says that the rest is honest.
    """
    require(0 <= 2 * trim < len(norms), "trim", trim, f"below half of the {len(norms)} replies")
    order = sorted(range(len(norms)), key=norms.__getitem__)  # stable
    kept, trimmed = order[: len(order) - trim], order[len(order) - trim :]
    return Selection(tuple(sorted(kept)), tuple(sorted(trimmed)), norms[kept[-1]])
