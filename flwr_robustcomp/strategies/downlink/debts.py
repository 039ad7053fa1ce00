"""When a node that holds no replica gets one: once what it paid for whole models is what a replica costs."""

from __future__ import annotations

from typing import Annotated, Self

from flwr.app import ConfigRecord, RecordDict
from pydantic import Field, model_validator

from flwr_robustcomp.downlink.records import Version
from flwr_robustcomp.downlink.typed_record import TypedRecord
from flwr_robustcomp.errors import require

__all__ = ["Debts"]

_DEBTS = "robustcomp.downlink.debts"
"""Name of the record in a checkpoint."""

_UNUSED = 3
"""Prices that are taken off the debt of a node that bought a replica, until it holds that."""


class Debts:
    """What whole models cost each node more than the changes would have, had it held the replica: two integers a node.

    Notes
    -----
    The cheapest form of one message is not the cheapest of all: a node that missed too many changes gets the quantised model,
    keeps nothing of it, and would get it for ever. A dense replica costs more once, and changes from then on. Whether the node
    will be asked often enough is not known, so it rents until the rents are the price, and then buys: at most twice what the
    best choice in hindsight costs, and one whole model more (ski rental). The debt of a node does not grow that is asked so
    rarely that the changes in
    between are as large as the model: it never gets a replica. A node that buys one and then does not hold it, a liar, waits
    four times as long for the next.
    """

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        self._owed: dict[int, int] = {}

    def asked(self, node: int, version: int) -> int:
        """Take down the version at which a node is sent something; return that of the time before, 0 for none."""
        before, self._asked[node] = self._asked.get(node, 0), version
        return before

    def owe(self, node: int, extra: int, price: int) -> bool:
        """Add what this whole model costs more than changes; whether all of it is the price, which is then paid."""
        owed = self._owed.get(node, 0) + max(extra, 0)
        buys = owed >= price
        self._owed[node] = -_UNUSED * price if buys else owed
        return buys

    def holds(self, node: int) -> None:
        """Take down that a node holds the replica: it owes nothing."""
        self._owed.pop(node, None)

    def state(self) -> dict[str, ConfigRecord]:
        """Return what a checkpoint keeps."""
        owed = tuple(self._owed.get(node, 0) for node in self._asked)
        return {_DEBTS: _Kept(nodes=tuple(self._asked), versions=tuple(self._asked.values()), owed=owed).record()}

    @classmethod
    def restored(cls, state: RecordDict) -> Self:
        """Return what `state` left; no debts where a checkpoint has none of it.

        Raises
        ------
        ConfigurationError
            For a record that it did not leave.
        """
        found = cls()
        if (kept := _Kept.in_checkpoint(state, _DEBTS)) is None:
            return found
        found._asked = dict(zip(kept.nodes, kept.versions, strict=True))
        found._owed = {node: owed for node, owed in zip(kept.nodes, kept.owed, strict=True) if owed}
        return found


class _Kept(TypedRecord):
    nodes: Annotated[tuple[int, ...], Field(strict=False)]
    versions: Annotated[tuple[Version, ...], Field(strict=False)]
    owed: Annotated[tuple[int, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        require(len(self.nodes) == len(self.versions) == len(self.owed), "owed", len(self.owed), f"{len(self.nodes)} of them")
        return self
