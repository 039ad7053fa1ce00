"""A bias that grows under the alarm while the server gets used to it, and then takes all that passes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Seen
from flwr_robustcomp.simulations.attacks.unseen import Unseen, largest_unseen

__all__ = ["WarmUp"]


@dataclass(frozen=True)
class WarmUp(Unseen):
    """Send x_j - c_t mu with a c_t that grows for some rounds under what the filters let pass, and then turns to all of it.

    Parameters
    ----------
    rounds : int
        Of the warm-up, at least 1.
    share : float
        Of what passes, reached at the end of the warm-up, in (0, 1].
    turn : float
        What follows, in units of what passes; positive. Above 1 a server is needed that trusts a node for its past.
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    Let c* be the largest scale of the round for which no colluder is dropped. In round t = 1, 2, ... of the attack

        c_t = share c* t / rounds    for t <= rounds,        c_t = turn c*    afterwards.

    It is made against servers that look at a node's past. Over W rounds honest noise adds up to sqrt(W) times that of one, and
    the bias of the warm-up to share c* (W + 1) / 2: a filter that looks at sums sees share (W + 1) / (2 sqrt(W)) of what it
    lets pass, 0.87 for the defaults. So neither the rounds nor their sum tell the colluders from others when they turn, and
    their records are as good as anybody's. `SlowDrift` grows too and never turns; its steps know no filter. The construction is
    this project's.
    """

    rounds: int = 10
    share: float = 0.5
    turn: float = 1.0
    name: ClassVar[str] = "warm-up"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        require(0 < self.share <= 1, "share", self.share, "in (0, 1]")
        require(0 < self.turn < math.inf, "turn", self.turn, "positive and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the rounds so far and what passes in this one."""
        past, start = (0, None) if state is None else state
        if not seen.mean.any():
            return seen.own, (past, start)
        now = min(past + 1, self.rounds + 1)
        chain, direction = self.chain(seen), -seen.mean
        rows, most = largest_unseen(seen, lambda c: seen.own + c * direction, chain, start)
        scale = self.turn if now > self.rounds else self.share * now / self.rounds
        return rows if scale == 1 else seen.own + scale * most * direction, (now, most)
