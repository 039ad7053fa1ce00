"""What a colluding, omniscient adversary knows, and what it must compute; pure mathematics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["Collusion", "Seen"]


@dataclass(frozen=True)
class Seen:
    """One round through the adversary's eyes.

    Attributes
    ----------
    honest : Tensor, shape (h, d), float32 or float64, h >= 1
        What the honest nodes sent, as the server decodes it: Q(x_i), not x_i.
    nodes : tuple of int, h of them
        Whose they are; the same node has the same number in every round.
    norms : tuple of float, h of them
        The norms by which the server will sort them.
    byzantine : int
        b >= 1, how many replies the adversary writes.
    norm : callable
        (vector, shape (d,)) -> the largest norm by which the server would sort it, over the b nodes that could send it.
    trim : int or None
        How many replies the server trims; None if it does not trim by norm.
    rng : numpy.random.Generator
        Of this round.
    own : Tensor, shape (b, d), dtype of ``honest``
        What the Byzantine nodes would have sent after honest training: disguises that no filter has met before.
    sent : callable
        (vectors, shape (b, d)) -> the same as the server decodes them, Q(v_j), shape (b, d).
    """

    honest: Tensor
    nodes: tuple[int, ...]
    norms: tuple[float, ...]
    byzantine: int
    norm: Callable[[Tensor], float]
    trim: int | None
    rng: np.random.Generator
    own: Tensor
    sent: Callable[[Tensor], Tensor]

    @property
    def m(self) -> int:
        """All replies, h + b."""
        return len(self.honest) + self.byzantine

    @property
    def mean(self) -> Tensor:
        """Mean of the honest vectors, shape (d,)."""
        return self.honest.mean(dim=0)

    @property
    def spread(self) -> Tensor:
        """Standard deviation of the honest vectors by coordinate, shape (d,); of the h vectors themselves, not an estimate."""
        return torch.std(self.honest, dim=0, correction=0)


class Collusion(ABC):
    """A colluding attack: an immutable value object; what it remembers goes in and comes out of `craft`."""

    name: ClassVar[str]
    kind: ClassVar[str] = "colluding"

    def init(self) -> Any:
        """Return what the adversary knows before its first round; None for those that remember nothing."""
        return None

    @abstractmethod
    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return the vector that all Byzantine nodes send, shape (d,), or each its own, shape (b, d), and the next state.

        The dtype is that of ``seen.honest``.
        """
