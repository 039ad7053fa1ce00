"""Many directions instead of one: a bias that no single eigenvector shows whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters import Spectral
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.under_eigenvalue import check_filter, largest_quiet
from flwr_robustcomp.simulations.attacks.unseen import believed_trim

__all__ = ["Spread"]


@dataclass(frozen=True)
class Spread(Collusion):
    """Like `UnderEigenvalue`, with the colluders in groups, each of which works against its own part of the mean.

    Parameters
    ----------
    directions : int
        Groups g, at least 1; coordinate i and node j belong to groups i mod g and j mod g. No more than b count.
    slack, trim
        As for `UnderEigenvalue`.

    Notes
    -----
    The parts p_1, ..., p_g of the mean are orthogonal, and b/g colluders add a bias of length c along each. The scatter along
    one is about (b/g) c^2, so c may be sqrt(g) times as long as with one direction; the mean moves by (b/g) c / m along each,
    and sqrt(g) times as far in all. The two cancel: at equal eigenvalues the bias is the same for every g. What spreading can
    win is the filter's budget, which is spent on one direction at a time, and a better fit to the compressor. The construction
    is this project's.
    """

    directions: int = 5
    slack: float = 3.0
    trim: int | None = None

    name: ClassVar[str] = "spread"

    def __post_init__(self) -> None:
        require(self.directions >= 1, "directions", self.directions, "at least 1")
        check_filter(self.slack, self.trim)

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the scale of this round."""
        groups = min(self.directions, seen.byzantine)
        coordinates = torch.arange(seen.honest.shape[1]) % groups
        nodes = torch.arange(seen.byzantine) % groups
        parts = -seen.mean * (coordinates[None, :] == nodes[:, None])  # (b, d)
        spectral = Spectral(trim=believed_trim(seen, self.trim), slack=self.slack)
        return largest_quiet(seen, lambda c: seen.own + c * parts, spectral, state)
