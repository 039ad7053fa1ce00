"""What the adversary has read of a round so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flwr_robustcomp.simulations.attacks.sent import Form, Sent

__all__ = ["KnownRound"]


@dataclass
class KnownRound:
    """A round as the adversary knows it; kept where nodes get the model again because they could not read it.

    Attributes
    ----------
    number : int
        The server round.
    nodes : frozenset of int
        Who was asked.
    state : object
        The attack's, before the round.
    read : dict of int to (Sent, Form)
        The updates so far, as honest training gave them, by node.
    liars : dict of int to int
        The partitions of the nodes that lie, by node.
    """

    number: int
    nodes: frozenset[int]
    state: Any
    read: dict[int, tuple[Sent, Form]] = field(default_factory=dict)
    liars: dict[int, int] = field(default_factory=dict)

    def of(self, *, lying: bool) -> list[tuple[Sent, Form]]:
        """Return the updates of those that lie, or of the others, by ascending node id."""
        return [self.read[node] for node in sorted(self.read) if (node in self.liars) == lying]
