"""A bias in one direction that grows from nothing and never jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.drift import biased
from flwr_robustcomp.simulations.attacks.lengths import against

__all__ = ["SlowDrift"]


@dataclass(frozen=True)
class SlowDrift(Collusion):
    """Send x_j + c_t u like `Drift`, with a bias that grows in equal steps from zero.

    Parameters
    ----------
    z : float
        The bias along u at its end, in honest standard deviations; positive.
    rounds : int
        How many rounds it grows, at least 1.

    Notes
    -----
    In the t-th round of the attack, t = 1, 2, ..., the decoded vectors are z min(1, t / rounds) honest standard deviations from
    the honest mean along u, the first round's mean reversed. No round differs from the last by more than z / rounds deviations:
    rules that compare a node with its own past, or the aggregate with the last one, find no jump, and a threshold that is
    learnt from past rounds learns the bias. At its end the bias is larger than one that hides in the noise of a single round,
    the 1 of `Drift`. The construction is this project's.
    """

    z: float = 3.0
    rounds: int = 50

    name: ClassVar[str] = "slow-drift"

    def __post_init__(self) -> None:
        require(0 < self.z < math.inf, "z", self.z, "positive and finite")
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the rounds so far and u."""
        past, u = (0, None) if state is None else state
        if u is None or u.shape != seen.mean.shape:
            u = against(seen)
        if not u.any():
            return seen.own, (past, None)
        past = min(past + 1, self.rounds)
        return biased(seen, u, self.z * past / self.rounds), (past, u)
