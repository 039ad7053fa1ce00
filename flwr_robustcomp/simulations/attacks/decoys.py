"""Half of the colluders draw the filter's attention, the other half does the harm."""

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

__all__ = ["Decoys"]


@dataclass(frozen=True)
class Decoys(Collusion):
    """Repeat honest nodes with floor(b/2) vectors, so that those nodes are dropped too; hide the rest under the eigenvalue.

    Parameters
    ----------
    groups : int
        How many honest nodes are repeated, at least 1, drawn anew each round; no more than there are decoys.
    slack, trim
        As for `UnderEigenvalue`.

    Notes
    -----
    A filter that drops what has the largest share of the leading eigenvector cannot tell n copies from their original: all have
    the share 1 / (n + 1), so that n decoys cost it n + 1 of its budget, one of them an honest node, for as long as (n + 1)
    squared lengths stand out. How many honest nodes decoys can take with them is limited: where lambda_1 > kappa lambda_H, the
    honest nodes together hold less than 1/kappa of the leading eigenvector but for the shift of the mean. The hidden half has
    the scale at which it would pass if there were no decoys; by the bound of `Spectral` half the colluders move the mean 1 /
    sqrt(2) as far. Decoys also raise the alarm. From there on the filter uses its lower threshold (``resume_slack``) and finds
    many of the hidden: the attack is at its best against a single threshold. The construction is this project's.
    """

    groups: int = 2
    slack: float = 3.0
    trim: int | None = None

    name: ClassVar[str] = "decoys"

    def __post_init__(self) -> None:
        require(self.groups >= 1, "groups", self.groups, "at least 1")
        check_filter(self.slack, self.trim)

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, the decoys first, and the scale of the hidden in this round."""
        decoys = seen.byzantine // 2
        groups = max(1, min(self.groups, decoys, len(seen.honest)))
        repeated = torch.from_numpy(seen.rng.permutation(len(seen.honest))[:groups])
        copies = seen.honest[repeated[torch.arange(decoys) % groups]]  # (b // 2, d)
        hidden, direction = seen.own[decoys:], -seen.mean

        def make(scale: float) -> Tensor:
            return torch.cat([copies, hidden + scale * direction])  # (b, d)

        spectral = Spectral(trim=believed_trim(seen, self.trim), slack=self.slack)
        return largest_quiet(seen, make, spectral, state, looked_at=slice(decoys, None))
