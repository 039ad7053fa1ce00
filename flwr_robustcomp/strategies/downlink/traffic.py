"""What a round sends: bytes, the forms in which the model went, and who had to be sent it again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flwr_robustcomp.downlink import Form

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

    def __str__(self) -> str:
        forms = ", ".join(f"{count} {form}" for form, count in sorted(self.forms.items()))
        return f"{self.sent} bytes sent ({forms})" if forms else f"{self.sent} bytes sent"
