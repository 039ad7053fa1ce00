"""The attack made for trimmed means: at each coordinate the farthest value that is not cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Seen
from flwr_robustcomp.simulations.attacks.unseen import Unseen, believed_trim, largest_unseen

__all__ = ["HiddenTails", "edges"]


@dataclass(frozen=True)
class HiddenTails(Unseen):
    """Send, at each coordinate, the value at the edge of what a coordinate-wise trimmed mean keeps, against the mean's sign.

    Parameters
    ----------
    margin : float
        How far inside the edge to stay, as a share of the gap to the next honest value, in (0, 1].
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget t; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    Let x_(1) <= ... <= x_(h) be the honest values at a coordinate where the honest mean is positive; where it is negative, all
    is mirrored. A mean that cuts the t lowest and the t highest of m values keeps all b colluders exactly where t honest values
    lie below theirs: they send

        v = x_(t) + margin (x_(t+1) - x_(t)),

    the t honest values below are cut in their place, and so are the t highest. Below x_(t) some of the colluders are cut, so
    the bias is the largest of which nothing is lost, but for the margin. The trimmed-mean attack of Fang et al. 2020, section
    4.3, sends values beyond the honest ones: they are cut in the place of honest ones, and filters on whole vectors find them.
    To pass such filters too, what is sent is mu + c (v - mu) with the largest c <= 1 at which they drop no colluder. Under a
    compressor that mixes coordinates, DRIVE for example, the edge is met in the mean only. The construction is this project's.
    """

    margin: float = 0.01
    name: ClassVar[str] = "hidden-tails"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.margin <= 1, "margin", self.margin, "in (0, 1]")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, all alike, and the scale of this round."""
        mean = seen.mean
        low, high = edges(seen.honest, believed_trim(seen, self.trim), self.margin)
        against = torch.where(mean > 0, low, torch.where(mean < 0, high, mean)) - mean  # (d,)

        def make(scale: float) -> Tensor:
            return (mean + scale * against).repeat(seen.byzantine, 1)  # (b, d)

        return largest_unseen(seen, make, self.chain(seen), 1.0, most=1.0)


def edges(honest: Tensor, trim: int, margin: float) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest values that are kept whole, by coordinate, each of shape (d,).

    Parameters
    ----------
    honest : Tensor, shape (h, d)
        The honest vectors.
    trim : int
        t; at most h - 1 count. For t = 0 nothing is cut, and the edges are the extreme honest values.
    margin : float
        As for `HiddenTails`.
    """
    ordered = honest.sort(dim=0).values  # (h, d)
    h = len(ordered)
    inner = min(trim, h - 1)
    outer = max(inner - 1, 0)
    low = ordered[outer] + margin * (ordered[inner] - ordered[outer])
    high = ordered[h - 1 - outer] - margin * (ordered[h - 1 - outer] - ordered[h - 1 - inner])
    return low, high
