"""A message that was sent: what a node got, what it would have got without a downlink, and how often it got it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Message, RecordDict

from flwr_robustcomp.downlink.records import HEADER, Header, Held, shares_data

__all__ = ["Sent", "carries", "timeout_of", "with_model"]


@dataclass
class Sent:
    """What a node was sent in a round.

    Attributes
    ----------
    message : Message
        The last one that it got.
    plain : RecordDict
        The content that the strategy had for it.
    base : Held or None
        The version that the changes in the message build on; None where there are none.
    again : int
        How many times it was sent the model again.
    """

    message: Message
    plain: RecordDict
    base: Held | None
    again: int = 0

    @property
    def node(self) -> int:
        """The node's id."""
        return self.message.metadata.dst_node_id

    @property
    def kind(self) -> str:
        """What the message asks for: ``train``, ``evaluate``, ..."""
        return self.message.metadata.message_type.partition(".")[0]

    @property
    def packed(self) -> bool:
        """Whether the last message has a model that must be unpacked."""
        return HEADER in self.message.content


def carries(content: RecordDict, key: str, arrays: ArrayRecord) -> bool:
    """Whether a message carries this very model under the key."""
    found = content.get(key)
    return isinstance(found, ArrayRecord) and HEADER not in content and shares_data(found, arrays)


def with_model(content: RecordDict, header: Header, arrays: ArrayRecord) -> RecordDict:
    """Return a message's content with other Arrays in the place of the model, and what they are."""
    other = RecordDict({name: arrays if name == header.key else record for name, record in content.items()})
    other[HEADER] = header.record()
    return other


def timeout_of(args: Sequence[Any], options: Mapping[str, Any]) -> float | None:
    """Return the timeout among the arguments of Flower's ``start`` that follow the model: the second, after the rounds."""
    found = options.get("timeout", args[1] if len(args) > 1 else 3600.0)
    return float(found) if isinstance(found, int | float) else None
