"""One vector of enormous length, beside which all others look alike; and the same on honest vectors, with more than one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import against, carried, decoded_at, honest_length

__all__ = ["Rod"]


@dataclass(frozen=True)
class Rod(Collusion):
    """Send one vector of enormous length, and let the others push against the mean in its shadow.

    Parameters
    ----------
    length : float
        Of the rod, in median honest norms; at most what the dtype carries.
    push : float
        Length of all other colluders' vectors, as decoded, in median honest norms.

    Notes
    -----
    With N the median honest norm and u = -mu / ||mu||, node 1 sends length N u and each other v with Q(v) along Q(u) and
    ||Q(v)|| = push N. Every filter drops or shortens the rod. What counts is what it remembers of it: a tolerance that is
    measured on all m vectors, such as eps max |G_ij|, is then (length N)^2 eps, and below it all other vectors are the same.
    With eps = 2^-52 a push is under it if push^2 b < eps m length^2, so that a length of 1e15 shadows every push up to 1e7.
    Rules without such a tolerance see a push of 10 at once. Single precision carries the default for N up to 18, and a shorter
    rod beyond. The construction is this project's.
    """

    length: float = 1e15
    push: float = 10.0

    name: ClassVar[str] = "rod"

    def __post_init__(self) -> None:
        require(0 < self.length < math.inf, "length", self.length, "positive and finite")
        require(0 < self.push < math.inf, "push", self.push, "positive and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the rod and the pushes, shape (b, d)."""
        u, n = against(seen), honest_length(seen)
        rows = decoded_at(seen, u.repeat(seen.byzantine, 1), self.push * n)
        rows[0] = u * carried(self.length * n, u.dtype)
        return rows, state
