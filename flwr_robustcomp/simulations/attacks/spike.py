"""All of an honest length in one coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.lengths import decoded_at, honest_length

__all__ = ["Spike"]


@dataclass(frozen=True)
class Spike(Collusion):
    """Send a vector of honest length with nothing outside the coordinates where the honest mean is largest.

    Parameters
    ----------
    length : float
        Of what the server decodes, in median honest norms.
    coordinates : int
        How many coordinates k, at least 1; no more than there are.

    Notes
    -----
    With S the k coordinates of largest |mu_i| and N the median honest norm, every colluder sends

        v = -c sum_{i in S} sign(mu_i) e_i,    ||Q(v)|| = length N.

    A norm threshold sees an honest length. An honest vector spreads its length over d coordinates; the colluders move one by b
    length N / m, where the honest mean has about ||mu|| / sqrt(d). Compression is no defence. Top-k sends a spike as it is. A
    Hadamard rotation makes all its coordinates equal in size, the one kind of vector that DRIVE sends without loss. Under
    l1-sign a single coordinate decides the scale and zeros count as positive: the server decodes a vector along (1, ..., 1),
    with the sign turned at the spike. The attack aims at filters by inner products, against which all other directions are
    honest noise: the shorter the spike, the less its direction stands out of that noise, and the more of its senders stay.
    Length 1 is all of the honest length; the default was chosen for the harm it does to `Spectral` on regressions like those of
    docs/robustness.md. The construction is this project's.
    """

    length: float = 0.5
    coordinates: int = 1

    name: ClassVar[str] = "spike"

    def __post_init__(self) -> None:
        require(0 < self.length < math.inf, "length", self.length, "positive and finite")
        require(self.coordinates >= 1, "coordinates", self.coordinates, "at least 1")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the same row for every node, but for the draws of a randomised compressor, shape (b, d)."""
        mean = seen.mean
        chosen = torch.argsort(mean.abs(), descending=True, stable=True)[: self.coordinates]
        v = torch.zeros_like(mean)
        v[chosen] = -torch.sign(mean[chosen])
        return decoded_at(seen, v.repeat(seen.byzantine, 1), self.length * honest_length(seen)), state
