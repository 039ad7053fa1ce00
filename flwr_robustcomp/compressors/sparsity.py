"""How many coordinates a sparsifying compressor keeps: a count or a share."""

from __future__ import annotations

import math

from flwr_robustcomp.compressors.base import Compressor
from flwr_robustcomp.errors import require

__all__ = ["check_sparsity", "check_values", "kept_of", "require_fits"]


def check_values(values: object) -> None:
    """Raise unless the kept entries can go through it: a compressor of vectors that sees no round and no shape."""
    simple = isinstance(values, Compressor) and not values.wants_matrices and values.codec == values.name
    require(simple, "values", values, "a Compressor that is not composed itself")


def check_sparsity(k: int | None, ratio: float | None) -> None:
    """Raise unless exactly one of ``k`` >= 1 and ``ratio`` in (0, 1] is given."""
    require((k is None) != (ratio is None), "k, ratio", (k, ratio), "given one or the other, not both")
    if k is not None:
        require(isinstance(k, int) and 1 <= k < 2**32, "k", k, "an integer in [1, 2**32)")
    if ratio is not None:
        require(0.0 < ratio <= 1.0, "ratio", ratio, "in (0, 1]")


def require_fits(k: int | None, d: int) -> None:
    """Raise if a count is larger than the vector."""
    require(k is None or k <= d, "k", k, f"in [1, {d}], the number of coordinates")


def kept_of(k: int | None, ratio: float | None, d: int) -> int:
    """Return the number of kept coordinates out of d, at least 1; a share is rounded up."""
    return k if k is not None else math.ceil(ratio * d) if ratio is not None else d
