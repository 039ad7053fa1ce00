"""When an attack is on: from a round, until a round, in a fraction of the rounds between."""

from __future__ import annotations

from dataclasses import dataclass

from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator

__all__ = ["ALWAYS", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """The rounds of an attack; outside of them its nodes are honest.

    Parameters
    ----------
    start : int
        The first round, at least 1.
    stop : int, optional
        The last round, at least ``start``; by default the run's last.
    fraction : float
        The chance of each round in between, in (0, 1]. One draw for a round, the same for all nodes: the Byzantine nodes
        switch on together.

    Examples
    --------
    >>> from flwr_robustcomp.clients import Schedule
    >>> [round_ for round_ in range(1, 10) if Schedule(start=3, stop=5).is_on(round_, seed=0)]
    [3, 4, 5]
    """

    start: int = 1
    stop: int | None = None
    fraction: float = 1.0

    def __post_init__(self) -> None:
        require(self.start >= 1, "start", self.start, "at least 1")
        require(self.stop is None or self.stop >= self.start, "stop", self.stop, f"at least start = {self.start}")
        require(0 < self.fraction <= 1, "fraction", self.fraction, "in (0, 1]")

    def is_on(self, round_: int, seed: int) -> bool:
        """Whether the attack is on in a round of the run with this seed.

        A server that does not count its rounds is in round 0: only a schedule without a beginning and an end is on there.
        """
        if self == ALWAYS:
            return True
        if round_ < self.start or (self.stop is not None and round_ > self.stop):
            return False
        return self.fraction == 1 or float(generator(seed, "attack schedule", round_=round_).random()) < self.fraction


ALWAYS = Schedule()
"""On in every round."""
