"""To and fro: a push that turns around, so that honest gradients alternate and the residuals of error feedback grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import against, decoded_at

__all__ = ["Bounce"]


@dataclass(frozen=True)
class Bounce(Collusion):
    """Push along one axis, kept for the whole run, as far as the longest honest vector reaches, and turn around.

    Parameters
    ----------
    period : int
        Rounds between two turns, at least 1.

    Notes
    -----
    With u = -mu / ||mu|| of the first round, every colluder sends v_t with Q(v_t) along (-1)^floor(t / period) Q(u) and
    ||Q(v_t)|| = max_i ||Q(x_i)||, t = 0, 1, .... Over two periods the pushes cancel; the model moves to and fro, and honest
    gradients with it, by b max_i ||Q(x_i)|| / m times curvature and step. The attack aims at error feedback: the residual of
    one round is what compression left of a gradient that points the other way by now, its bound grows with the gradients, and
    longer honest vectors allow a longer push in turn. The construction is this project's.
    """

    period: int = 1

    name: ClassVar[str] = "bounce"

    def __post_init__(self) -> None:
        require(self.period >= 1, "period", self.period, "at least 1")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the rounds so far and u."""
        rounds, u = (0, None) if state is None else state
        if u is None or u.shape != seen.mean.shape:
            u = against(seen)
        if not u.any():
            return seen.own, (rounds, None)
        sign = -1.0 if (rounds // self.period) % 2 else 1.0
        longest = float(torch.linalg.vector_norm(seen.honest, dim=1).max())
        return decoded_at(seen, (sign * u).repeat(seen.byzantine, 1), longest), (rounds + 1, u)
