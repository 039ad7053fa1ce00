"""Long noise on which a filter must spend its budget, and a push that stands out no farther than that noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import against, carried, honest_length, orthonormal

__all__ = ["Swamp"]


@dataclass(frozen=True)
class Swamp(Collusion):
    """Send long vectors, orthogonal to each other, from a part of the colluders, and push against the mean with the rest.

    Parameters
    ----------
    length : float
        Of the orthogonal vectors, in median honest norms; at most what the dtype carries.
    share : float
        Of the colluders that send them, in (0, 1), rounded down.

    Notes
    -----
    With N the median honest norm, u = -mu / ||mu|| and s = floor(share b), nodes 1 to s send length N a_i, orthonormal and
    orthogonal to mu, and the b - s others all send

        length N / sqrt(b - s) u.

    Every a_i is a direction of its own, of scatter (length N)^2, for which a filter can drop one vector only; the push has b -
    s vectors and the same scatter, so that it stands out no farther. A filter that drops one direction after the other spends s
    of its budget on noise that moves the mean by no more than length N sqrt(s) / m. lambda_{t+2}, the estimate of honest
    scatter in `Spectral`, is not raised by t colluders at all; a rule that estimates it by a mean or a median of all
    eigenvalues is. The construction is this project's.
    """

    length: float = 2.0
    share: float = 0.25

    name: ClassVar[str] = "swamp"

    def __post_init__(self) -> None:
        require(0 < self.length < math.inf, "length", self.length, "positive and finite")
        require(0 < self.share < 1, "share", self.share, "in (0, 1)")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, the noise first."""
        noisy = math.floor(self.share * seen.byzantine)
        length = carried(self.length * honest_length(seen), seen.honest.dtype)
        others = seen.byzantine - noisy
        push = length / math.sqrt(others) * against(seen)
        return torch.cat([length * orthonormal(seen, noisy), push.repeat(others, 1)]), state
