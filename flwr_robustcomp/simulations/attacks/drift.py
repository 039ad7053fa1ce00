"""A small bias in one direction for the whole run: nothing in any round, and much in all (Karimireddy, He and Jaggi 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import against

__all__ = ["Drift", "biased"]

_DOUBLINGS = 40
_BISECTIONS = 12


@dataclass(frozen=True)
class Drift(Collusion):
    """Send x_j + c u with u fixed in the first round and a bias of z honest standard deviations along u.

    Parameters
    ----------
    z : float
        Positive. At 1 the colluders are no farther from the honest mean, along u, than the average honest node.

    Notes
    -----
    Karimireddy et al. 2021, section 3: a rule without memory cannot tell this from honest noise, whose standard deviation along
    u is sigma_u, and while honest noise cancels over the rounds the bias of b z sigma_u / m adds up. Momentum on the clients
    shrinks sigma_u by sqrt((1 - beta) / (1 + beta)), and with it what can be hidden, but not a mean. u is the first round's
    honest mean, reversed; x_j is what the node's own honest training gave, after momentum where there is one. c is the least
    for which the vectors that the server decodes are z sigma_u away from the honest mean on average; where a compressor lets no
    c do that, the largest that was tried.
    """

    z: float = 1.0

    name: ClassVar[str] = "drift"

    def __post_init__(self) -> None:
        require(0 < self.z < math.inf, "z", self.z, "positive and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and u."""
        u = state
        if u is None or u.shape != seen.mean.shape:
            u = against(seen)
        if not u.any():
            return seen.own, None
        return biased(seen, u, self.z), u


def biased(seen: Seen, u: Tensor, z: float) -> Tensor:
    """Return x_j + c u with the least c for which the decoded are z honest deviations along u from the mean, shape (b, d).

    Parameters
    ----------
    seen : Seen
        The round.
    u : Tensor, shape (d,)
        Where to; of length one.
    z : float
        Not negative.
    """
    projections = seen.honest @ u
    wanted = float(projections.mean() + z * projections.std(correction=0))

    def reached(c: float) -> bool:
        return float((seen.sent(seen.own + c * u) @ u).mean()) >= wanted

    high = float(torch.linalg.vector_norm(seen.mean)) or 1.0
    low = 0.0
    for _ in range(_DOUBLINGS):
        if reached(high):
            break
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return seen.own + high * u
