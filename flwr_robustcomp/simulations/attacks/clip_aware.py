"""As long as clipping leaves whole, and as far against the mean as the filters let pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.simulations.attacks.base import Seen
from flwr_robustcomp.simulations.attacks.lengths import against, decoded_at
from flwr_robustcomp.simulations.attacks.unseen import Unseen, believed_trim, largest_unseen

__all__ = ["ClipAware", "clipping_radius"]


@dataclass(frozen=True)
class ClipAware(Unseen):
    """Send vectors of exactly the radius at which norm clipping clips, turned against the mean as far as the filters let pass.

    Parameters
    ----------
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget t; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    Clipping sets the radius to the (t+1)-th largest norm of all. Let all b <= t colluders send the (t+1-b)-th largest honest
    norm R: t - b honest norms are longer, so that R is the radius. None of theirs is shortened, and any longer vector would be
    cut to R. With b > t the radius is what the colluders make it; they take the largest honest norm, and are no longer than an
    honest vector. Colluder j sends, as the server decodes it,

        R (x_j / ||x_j|| + s u) / ||x_j / ||x_j|| + s u||,    u = -mu / ||mu||,

    with the largest s for which no colluder is dropped. At equal angle the longest vector moves the mean farthest: clipping
    has set the length, the filters on directions set the angle. The construction is this project's.
    """

    name: ClassVar[str] = "clip-aware"

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the turn of this round, from which the next search starts."""
        u = against(seen)
        if not u.any():
            return seen.own, state
        radius = clipping_radius(seen.norms, seen.byzantine, believed_trim(seen, self.trim))
        lengths = torch.linalg.vector_norm(seen.own, dim=1, keepdim=True)
        units = seen.own / torch.where(lengths > 0, lengths, 1.0)  # (b, d)

        def make(turn: float) -> Tensor:
            return decoded_at(seen, units + turn * u, radius)

        return largest_unseen(seen, make, self.chain(seen), state)


def clipping_radius(norms: Sequence[float], byzantine: int, trim: int) -> float:
    """Return the largest norm that b colluders can all send unclipped, by the norms of the honest; see `ClipAware`."""
    longer = min(max(trim - byzantine, 0), len(norms) - 1)
    return sorted(norms, reverse=True)[longer]
