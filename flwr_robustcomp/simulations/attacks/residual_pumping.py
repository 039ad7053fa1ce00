"""Error feedback turned around: what honest-looking replies hold back is released at once, where the filters let it through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters import Filter
from flwr_robustcomp.simulations.attacks.base import Seen
from flwr_robustcomp.simulations.attacks.unseen import Unseen, largest_unseen

__all__ = ["ResidualPumping", "leading_direction"]


@dataclass(frozen=True)
class ResidualPumping(Unseen):
    """Send honest vectors for some rounds, keep the push that they lack in a residual, and release what passes of it at once.

    Parameters
    ----------
    wait : int
        Rounds from one release to the next, at least 1.
    push : float
        What each round adds to the residual, in honest means; positive.
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    The colluders keep the account of error feedback (Stich et al. 2018, Algorithm 1) over a push that nobody sees: with e_0 = 0

        e_t = e_(t-1) - push mu_t - r_t,

    where r_t is what all of them add to their honest x_j: nothing while they wait, and in every ``wait``-th round s e or s e',
    0 <= s <= 1, whichever is longer. So all that was ever released and what is left of the residual add up to all pushes, and a
    release undoes at once what the honest have gained since the last one. e' is e without its part along the leading direction
    of the honest scatter: there lambda_1 is at its highest, and every other direction has more room under the threshold. s is
    the largest for which no colluder is dropped. In between all rounds are honest, and a node's past is mostly made of them.
    `RodWithResiduals` uses the residuals that honest training left and adds a push in each round. The construction is this
    project's.
    """

    wait: int = 3
    push: float = 1.0
    name: ClassVar[str] = "residual-pumping"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.wait >= 1, "wait", self.wait, "at least 1")
        require(0 < self.push < math.inf, "push", self.push, "positive and finite")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the rounds so far and the residual, shape (d,)."""
        past, residual = (0, None) if state is None else state
        if residual is None or residual.shape != seen.mean.shape:
            residual = torch.zeros_like(seen.mean)
        residual = residual - self.push * seen.mean
        if (past + 1) % self.wait or not residual.any():
            return seen.own, (past + 1, residual)
        axis = leading_direction(seen)
        chain = self.chain(seen)
        released = max(
            (_release(seen, part, chain) for part in (residual, residual - (residual @ axis) * axis)),
            key=lambda one: float(torch.linalg.vector_norm(one)),
        )
        return seen.own + released, (past + 1, residual - released)


def _release(seen: Seen, part: Tensor, chain: list[Filter]) -> Tensor:
    """Return the most of a vector that passes, shape (d,)."""
    _, scale = largest_unseen(seen, lambda s: seen.own + s * part, chain, 1.0, most=1.0)
    return scale * part


def leading_direction(seen: Seen) -> Tensor:
    """Return the unit vector along which the honest vectors scatter most, shape (d,); zero where they do not."""
    centred = seen.honest - seen.mean  # (h, d)
    leading = np.linalg.eigh((centred @ centred.T).double().numpy())[1][:, -1]  # (h,)
    axis = torch.from_numpy(leading).to(centred.dtype) @ centred
    length = torch.linalg.vector_norm(axis)
    return axis / length if length > 0 else torch.zeros_like(axis)
