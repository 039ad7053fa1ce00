"""An honest vector with its signs turned where the honest agree most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["MostAgreedSignFlip"]


@dataclass(frozen=True)
class MostAgreedSignFlip(Collusion):
    """Send x_j with the signs against the majority on the coordinates where that majority is largest.

    Parameters
    ----------
    share : float
        Of the coordinates, in (0, 1], rounded up.

    Notes
    -----
    x_j is what the node's own honest training gave, and s_i = |sum_k sign(x_ki)| the agreement of the honest nodes k on
    coordinate i. On the ``share`` d coordinates of largest s_i, equal ones in the order of |mu_i|, node j sends

        -sign(sum_k sign(x_ki)) |x_ji|,

    and x_ji elsewhere, as where the honest are divided equally. Magnitudes stay, so that the norm is honest under every order.
    Where the honest agree, a turned sign moves a mean of signs the farthest; where they do not, signs stay honest, and they are
    the disguise: two colluders agree on ``share`` d coordinates more than two honest nodes do. Made for compressors that send
    signs. With a small share the colluders' common direction stays below the honest noise; the default was chosen for the harm
    it does to `Spectral` under l1-sign on regressions like those of docs/robustness.md. The construction is this project's.
    """

    share: float = 0.1

    name: ClassVar[str] = "most-agreed-sign-flip"

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", self.share, "in (0, 1]")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node."""
        votes = torch.sign(seen.honest).sum(dim=0)  # (d,)
        by_size = torch.argsort(seen.mean.abs(), descending=True, stable=True)
        order = by_size[torch.argsort(votes[by_size].abs(), descending=True, stable=True)]
        chosen = order[: math.ceil(self.share * len(votes))]
        rows = seen.own.clone()
        turned = -torch.sign(votes[chosen])
        rows[:, chosen] = torch.where(turned == 0, rows[:, chosen], turned * rows[:, chosen].abs())
        return rows, state
