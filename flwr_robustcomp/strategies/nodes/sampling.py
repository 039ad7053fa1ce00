"""A Grid as sampling may see it: without the nodes that are left out for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from flwr_robustcomp.flower import Run

__all__ = ["SamplingView"]


class SamplingView(Grid):
    """Any Grid with fewer node ids; all else is the Grid's own.

    Parameters
    ----------
    grid : Grid
        The Grid.
    available : callable
        Node ids of the Grid to those that may be sampled; asked anew each time, for nodes come and go.
    """

    def __init__(self, grid: Grid, available: Callable[[Iterable[int]], Iterable[int]]) -> None:
        self._grid = grid
        self._available = available

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the Grid's own, such as a simulation's partitions."""
        return getattr(self._grid, name)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids that may be sampled."""
        return self._available(self._grid.get_node_ids())

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Return the run."""
        return self._grid.run

    def create_message(self, *args: Any, **options: Any) -> Message:
        """Make an instruction message."""
        return self._grid.create_message(*args, **options)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; return their ids."""
        return self._grid.push_messages(messages)

    def pull_messages(self, *args: Any, **options: Any) -> Iterable[Message]:
        """Return the replies that have come; the parameters are those of the Grid, which differ among Flower's versions."""
        return self._grid.pull_messages(*args, **options)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages; return the replies."""
        return self._grid.send_and_receive(messages, timeout=timeout)
