"""What a grid offers whose nodes live with the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from flwr.app import RecordDict

__all__ = ["KeepsNodeStates"]


@runtime_checkable
class KeepsNodeStates(Protocol):
    """A grid whose nodes live and die with the server, so that their states belong in its checkpoint."""

    def node_states(self) -> dict[int, RecordDict]:
        """Return `Context.state` of every node by its id."""
        ...

    def restore_node_states(self, states: Mapping[int, RecordDict]) -> None:
        """Put states in the place of the nodes' own."""
        ...
