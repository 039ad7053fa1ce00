"""The node's side of a collusion: a Byzantine node trains honestly and marks its reply as one to be overwritten."""

from __future__ import annotations

from typing import ClassVar

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable

from flwr_robustcomp.clients import Attack, Kind
from flwr_robustcomp.clients.node import partition_of

__all__ = ["MARK", "Accomplice", "mark"]

MARK = "robustcomp.accomplice"
"""Name of the ConfigRecord that marks a reply; `ColludingGrid` takes it off."""


class Accomplice(Attack):
    """A mod that marks the replies of Byzantine nodes in the rounds of the attack; the outermost of all mods.

    The reply says itself that it is Byzantine, so that a `ColludingGrid` finds it on every Grid: under `flwr run` node ids are
    random and only the node knows its partition.

    Parameters
    ----------
    **options
        Those of `Attack`.
    """

    name: ClassVar[str] = "accomplice"
    kind: ClassVar[Kind] = "colluding"

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Mark the reply of a Byzantine node."""
        lies = self.lies_to(message, context)
        answer = call_next(message, context)
        if lies and not answer.has_error():
            mark(answer, partition_of(context))
        return answer


def mark(reply: Message, partition: int) -> None:
    """Mark a reply as one that the adversary may overwrite."""
    reply.content[MARK] = ConfigRecord({"partition": partition})
