"""What all Byzantine mods share: who lies, in which rounds, and whose random numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar, Literal

from flwr.app import Context, Message

from flwr_robustcomp.clients.node import is_training, partition_of, round_of, seed_of
from flwr_robustcomp.clients.schedule import ALWAYS, Schedule

__all__ = ["Attack", "Kind"]

Kind = Literal["label", "update", "colluding"]
"""What an attack changes: the data that a node trains on, its own update, or all Byzantine updates at once."""


class Attack:
    """Base of the Byzantine mods.

    Parameters
    ----------
    partitions : collection of int, optional
        The partition ids of the Byzantine nodes; None makes every node that runs this app Byzantine.
    schedule : Schedule
        The rounds in which they lie; by default all.
    seed : int, optional
        Of the attack's random numbers; by default the run config's ``seed``, else 0.

    Examples
    --------
    >>> from flwr_robustcomp.clients import Schedule, SignFlip
    >>> attack = SignFlip(partitions=[3], schedule=Schedule(start=5))
    >>> [attack.lies(partition, round_, seed=0) for partition, round_ in [(3, 5), (3, 4), (2, 5)]]
    [True, False, False]
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]

    def __init__(
        self, *, partitions: Collection[int] | None = None, schedule: Schedule = ALWAYS, seed: int | None = None
    ) -> None:
        self.partitions = partitions
        self.schedule = schedule
        self.seed = seed

    def lies(self, partition: int, round_: int, seed: int) -> bool:
        """Whether a node lies in a round."""
        return (self.partitions is None or partition in self.partitions) and self.schedule.is_on(round_, seed)

    def lies_to(self, message: Message, context: Context) -> bool:
        """Whether this node lies in its reply to this message; never where no training is asked for."""
        return is_training(message) and self.lies(partition_of(context), round_of(message), seed_of(context, self.seed))
