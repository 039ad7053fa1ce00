"""How far a crafted direction can go before a chain of filters acts against a colluder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from flwr_robustcomp.component import resolve
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.filters import FILTERS, Filter, Matrix, Vectors, chain
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["CHAIN", "Unseen", "believed_trim", "gram_of", "largest_scale", "largest_unseen"]

CHAIN = "length+norm-clipping+directions+spectral"
"""What the recommended recipe does before its rule; its length screen is a filter here."""

LENGTH_SCREEN = 5.0
"""The factor of that screen."""

_DOUBLINGS = 24
_BISECTIONS = 5
"""The scale is found within a factor of 2^(1/32)."""

_ROUNDING = 1e-9
"""Of a weight, which is a product of a few numbers."""


@dataclass(frozen=True, kw_only=True)
class Unseen(Collusion):
    """An attack that reckons with the server's filters: it sends as much as these let pass.

    Parameters
    ----------
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget t; by default what the strategy trims, or b where that is not known.
    """

    filters: str = CHAIN
    trim: int | None = None

    def __post_init__(self) -> None:
        require(self.trim is None or self.trim >= 0, "trim", self.trim, "at least 0")
        for one in _filters(self.filters, 0):
            require(not one.looks_at, "filters", one.name, "names of filters that need inner products only, joined by +")

    def chain(self, seen: Seen) -> list[Filter]:
        """Return the filters, each with the budget that the adversary believes in."""
        return _filters(self.filters, believed_trim(seen, self.trim))


def believed_trim(seen: Seen, trim: int | None) -> int:
    """Return the budget that the adversary reckons with."""
    known = seen.trim if trim is None else trim
    return seen.byzantine if known is None else known


def _filters(filters: str, trim: int) -> list[Filter]:
    made = []
    for name in filters.split("+"):
        options = {"factor": LENGTH_SCREEN} if name == "length" else {}
        made.append(resolve("filters", FILTERS, name, base=Filter)(trim, **options))
    return made


def largest_unseen(
    seen: Seen,
    make: Callable[[float], Tensor],
    filters: Sequence[Filter],
    start: float | None,
    *,
    looked_at: slice = slice(None),
    most: float = math.inf,
) -> tuple[Tensor, float]:
    """Return the crafted rows of the largest scale at which no filter of a chain acts against a colluder, and that scale.

    Parameters
    ----------
    seen : Seen
        The round.
    make : callable
        (scale) -> rows before the compressor, shape (b, d); honest ones at scale 0.
    filters : sequence of Filter
        The server's, in order; they are run on the inner products of what the server will decode.
    start : float, optional
        Where to begin; by default, and for 0, 1.
    looked_at : slice
        The crafted rows that must pass; by default all.
    most : float
        The largest scale to try, positive.

    Returns
    -------
    (Tensor, shape (b, d), float)
        Scale 0 where nothing passes, or where the filters have too few vectors and will skip the round.

    Notes
    -----
    A colluder passes if its weight in the aggregate is at least its fair share: what those filters of the chain that drop
    nobody make of it, 1 / m without such filters. So clipping alone is no harm, and whoever is dropped has less. Filters need
    not grow stricter with the scale everywhere; what is returned passes, and twice it did not.
    """
    honest = seen.honest
    own = (honest @ honest.T).double().numpy()  # (h, h)
    m = len(honest) + len(range(*looked_at.indices(seen.byzantine)))
    shortening = [one for one in filters if one.left(m, int(one.trim)) == m]

    def passes(scale: float) -> bool:
        vectors = Vectors.of_gram(gram_of(own, honest, seen.sent(make(scale))[looked_at]))
        try:
            weights, fair = chain(filters, vectors), chain(shortening, vectors)
        except ConfigurationError:
            return False
        return bool((weights >= (1 - _ROUNDING) * fair)[len(honest) :].all())

    scale = largest_scale(passes, start, most)
    return make(scale), scale


def largest_scale(passes: Callable[[float], bool], start: float | None, most: float = math.inf) -> float:
    """Return the largest scale that passes, by doubling and bisection; 0 where none does.

    Parameters
    ----------
    passes : callable
        (scale) -> whether it does.
    start : float, optional
        Where to begin; by default, and for 0, 1.
    most : float
        The largest scale to try, positive.
    """
    low = high = min(start or 1.0, most)
    if passes(low):
        for _ in range(_DOUBLINGS):
            if low == most:
                return low
            high = min(2 * low, most)
            if not passes(high):
                break
            low = high
        else:
            return low
    else:
        for _ in range(_DOUBLINGS):
            low = high / 2
            if passes(low):
                break
            high = low
        else:
            return 0.0
    for _ in range(_BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def gram_of(own: Matrix, honest: Tensor, crafted: Tensor) -> Matrix:
    """Return the inner products of honest and crafted vectors, shape (h + k, h + k), from those of the honest."""
    across = (honest @ crafted.T).double().numpy()  # (h, k)
    return np.block([[own, across], [across.T, (crafted @ crafted.T).double().numpy()]])
