"""The attack made for norm thresholding: straight against the honest mean, as long as the threshold lets pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["UnderThreshold", "largest_kept_norm", "longest"]

_STEPS = 60
_TINY = 1e-12
_ROUNDING = 2e-7
"""More than the rounding of single precision, less than any margin worth having."""


@dataclass(frozen=True)
class UnderThreshold(Collusion):
    """Send -c * mean with the largest c whose norm, as the server measures it, survives the trimming.

    Parameters
    ----------
    trim : int, optional
        How many replies the server is believed to trim; by default what the strategy trims, or b where it does not trim by
        norm.
    margin : float
        How far below the threshold to stay, relative, in (0, 1).
    noise : float
        Length of a Gaussian vector of each node's own beside the common one, whose length counts as 1; not negative.

    Notes
    -----
    The paper's filter keeps the m - k smallest norms. All b crafted vectors, of one norm v, survive if at least k honest norms
    are larger (ties are broken by the order of nodes, so none is risked): v must be below the k-th largest honest norm, and any
    v above it loses at least one crafted vector. Under the threshold the mean moves by c b / (m - k) against the honest
    direction, k of the longest honest vectors being gone. For k = 0 nothing bounds v; the adversary then stays below the
    largest honest norm all the same. Section 5 of the paper allows this adversary and bounds what it can do; the construction
    is this project's. With ``noise`` the crafted vectors are not alike: node j sends c_j (-mean / ||mean|| + noise g_j), g_j ~
    N(0, I / d), each as long as the threshold lets pass. That costs 1 - 1 / sqrt(1 + noise^2) of the bias and hides the
    colluders from rules that look for vectors too near to each other.
    """

    trim: int | None = None
    margin: float = 1e-4
    noise: float = 0.0

    name: ClassVar[str] = "under-threshold"

    def __post_init__(self) -> None:
        require(self.trim is None or self.trim >= 0, "trim", self.trim, "at least 0")
        require(0 < self.margin < 1, "margin", self.margin, "in (0, 1)")
        require(0 <= self.noise < math.inf, "noise", self.noise, "non-negative and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return -c * mean, or with noise a row for each node."""
        believed = seen.trim if self.trim is None else self.trim
        limit = largest_kept_norm(seen.norms, seen.byzantine if believed is None else believed) * (1 - self.margin)
        direction = -seen.mean
        length = torch.linalg.vector_norm(direction)
        if self.noise == 0 or length == 0:
            return longest(direction, seen.norm, limit) * direction, state
        b, d = seen.byzantine, len(direction)
        noise = torch.from_numpy(seen.rng.standard_normal((b, d))).to(direction.dtype) * (self.noise / math.sqrt(d))
        return torch.stack([longest(row, seen.norm, limit) * row for row in direction / length + noise]), state


def largest_kept_norm(norms: Sequence[float], trim: int) -> float:
    """Return the norm that crafted vectors must stay below: the trim-th largest of the honest, trim taken in [1, h]."""
    return sorted(norms, reverse=True)[min(max(trim, 1), len(norms)) - 1]


def longest(direction: Tensor, norm: Callable[[Tensor], float], limit: float) -> float:
    """Return the largest c with norm(c * direction) <= limit, by bisection.

    Parameters
    ----------
    direction : Tensor, shape (d,)
        Where to.
    norm : callable
        What the server measures: ||Q(.)|| or a reported norm. Non-decreasing in c, up to rounding.
    limit : float
        Non-negative.

    Returns
    -------
    float
        1 where the norm does not depend on c, as with plain signs; 0 where nothing survives.

    Notes
    -----
    Every compressor but the plain sign is positively homogeneous, so the first guess, limit / norm(direction), is right to
    rounding and needs no more than a look at either side; where it is not, the bisection starts in its neighbourhood.
    """
    length = norm(direction)
    if length <= _TINY * limit or norm(2 * direction) == length:
        return 1.0
    guess = limit / length
    if norm(guess * (1 - _ROUNDING) * direction) <= limit < norm(guess * (1 + _ROUNDING) * direction):
        return guess * (1 - _ROUNDING)
    low, high = guess * (1 - 1e-3), guess * (1 + 1e-3)
    while low > 0 and norm(low * direction) > limit:
        low, high = (low / 2 if low > _TINY * guess else 0.0), low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if high - low <= 1e-9 * guess:
            break
        low, high = (middle, high) if norm(middle * direction) <= limit else (low, middle)
    return low
