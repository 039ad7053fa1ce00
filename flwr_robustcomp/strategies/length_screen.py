"""Updates too long for anything that looks at more than lengths: set aside before the filters."""

from __future__ import annotations

import math

import numpy as np

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters.length import overlong

__all__ = ["checked_length_screen", "stopped_by_length"]


def checked_length_screen(factor: float | None) -> float | None:
    """Return a factor of `filters.Length`, or None for no screen, which 0 stands for too: TOML has no None.

    Raises
    ------
    ConfigurationError
        For anything else.
    """
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    ok = factor is None or (number and (factor == 0 or 1 < factor < math.inf))
    require(ok, "length_screen", factor, "above 1 and finite, or 0 for none")
    return factor or None


def stopped_by_length(norms: dict[int, float], trim: int, factor: float | None, longest: float) -> dict[int, float]:
    """Return the norms of the updates that go no further, by node id.

    Parameters
    ----------
    norms : dict of int to float
        l2 norms by node id.
    trim : int
        How many Byzantine updates to expect.
    factor : float or None
        `filters.Length`'s; None for no screen.
    longest : float
        The largest norm that what follows can compute with.
    """
    lengths = np.array(list(norms.values()))
    stopped = lengths > longest
    if factor is not None:
        stopped |= overlong(lengths, trim, factor)
    return {node: norm for (node, norm), out in zip(norms.items(), stopped, strict=True) if out}
