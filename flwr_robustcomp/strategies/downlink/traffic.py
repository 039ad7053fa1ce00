"""What a round sends: bytes, the forms in which the model went, and who had to be sent it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from flwr.app import RecordDict

from flwr_robustcomp.downlink import Form
from flwr_robustcomp.downlink.records import array_bytes

__all__ = ["Traffic"]


@dataclass
class Traffic:
    """The account of the messages of one kind in one round.

    Attributes
    ----------
    sent : int
        Bytes of Array data in the messages, those that were sent again included.
    dense : int
        What the same messages would have had with the dense model.
    forms : Counter of Form
        How many nodes were sent which form first.
    again : dict of int to str
        The nodes that were sent the model again, and why.
    """

    sent: int = 0
    dense: int = 0
    forms: Counter[Form] = field(default_factory=Counter)
    again: dict[int, str] = field(default_factory=dict)

    def count(self, sent: Sequence[RecordDict], dense: Sequence[RecordDict]) -> None:
        """Count contents that are sent, and those that would have been with the dense model."""
        sizes = {id(content): array_bytes(content) for content in {id(one): one for one in (*sent, *dense)}.values()}
        self.sent += sum(sizes[id(content)] for content in sent)
        self.dense += sum(sizes[id(content)] for content in dense)
