"""Agree with the largest honest cluster, and push where it has little to say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Seen
from flwr_robustcomp.simulations.attacks.unseen import Unseen, largest_unseen

__all__ = ["ClusterMimic", "largest_cluster", "thin_coordinates"]


@dataclass(frozen=True)
class ClusterMimic(Unseen):
    """Send what members of the largest honest cluster sent, with a push against the mean where that cluster is thin.

    Parameters
    ----------
    share : float
        Of the coordinates that count as thin, in (0, 1].
    filters : str
        What the server does before its rule, names joined by ``+``.
    trim : int, optional
        Its budget; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    The cluster is the honest node with the most others at or above the median cosine of all pairs, and those others. Colluder j
    sends z_j - c mu_thin: z_j is what the j-th member sent, mu_thin the honest mean at the thin coordinates, and zero
    elsewhere. Those are the coordinates where the members have the least of the honest energy, mean_C x_i^2 / mean_H x_i^2: for
    unlike nodes, what only nodes outside the cluster learn, such as the output rows of labels that the cluster does not have.
    Inner products with the cluster change little there, so that c can be large before any filter drops a colluder; it is the
    largest for which none is. `Mimic` is the relative (Karimireddy, He and Jaggi 2022): without the push the cluster counts for
    more than it is. The construction is this project's.
    """

    share: float = 0.5
    name: ClassVar[str] = "cluster-mimic"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.share <= 1, "share", self.share, "in (0, 1]")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the scale of this round, from which the next search starts."""
        members = largest_cluster(seen.honest)
        copies = seen.honest[members[torch.arange(seen.byzantine) % len(members)]]  # (b, d)
        direction = -seen.mean * thin_coordinates(seen.honest, members, self.share)
        if not direction.any():
            return copies, state
        chain = self.chain(seen)
        return largest_unseen(seen, lambda c: copies + c * direction, chain, state)


def largest_cluster(honest: Tensor) -> Tensor:
    """Return the positions of the largest cluster of vectors by cosine, in ascending order; honest has shape (h, d)."""
    lengths = torch.linalg.vector_norm(honest, dim=1, keepdim=True)
    units = honest / torch.where(lengths > 0, lengths, 1.0)  # (h, d)
    cosines = units @ units.T  # (h, h)
    pairs = cosines[~torch.eye(len(honest), dtype=torch.bool)]
    near = cosines >= (pairs.median() if len(pairs) else 0.0)
    near.fill_diagonal_(True)
    return near[near.sum(dim=1).argmax()].nonzero().flatten()


def thin_coordinates(honest: Tensor, members: Tensor, share: float) -> Tensor:
    """Return where a cluster has the smallest part of the honest energy, shape (d,), bool; never where nobody has any."""
    energy = honest.square()  # (h, d)
    whole = energy.mean(dim=0)
    part = torch.where(whole > 0, energy[members].mean(dim=0) / whole, math.inf)  # (d,)
    thin = torch.zeros(len(part), dtype=torch.bool)
    thin[part.argsort(stable=True)[: math.ceil(share * len(part))]] = True
    return thin & (whole > 0)
