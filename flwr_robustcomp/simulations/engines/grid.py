"""What our grids share: Flower's Grid interface over nodes that we keep ourselves."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import Run, assume_identity, empty_run, server_context, wanted_ids, with_sender
from flwr_robustcomp.simulations.engines.shard import node_id_of
from flwr_robustcomp.simulations.scenario import RunConfig

__all__ = ["LocalGrid", "run_server_app"]

_run_ids = itertools.count(1)


class LocalGrid(Grid):
    """A Grid whose nodes belong to this run alone; a context manager that lets go of them.

    Parameters
    ----------
    num_nodes : int
        m, at least 1. Partition i has a fixed node id.
    run_config : dict, optional
        What every app sees as its run config.

    Attributes
    ----------
    partition_of : dict of int to int
        Partition id of each node id.
    """

    def __init__(self, num_nodes: int, run_config: RunConfig | None = None) -> None:
        require(num_nodes >= 1, "num_nodes", num_nodes, "at least 1")
        self.run_config: RunConfig = dict(run_config or {})
        self.partition_of = {node_id_of(partition): partition for partition in range(num_nodes)}
        self._run = empty_run(next(_run_ids))
        self._message_ids = itertools.count(1)
        assume_identity(self._run.run_id)

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run
        assume_identity(run.run_id)

    @property
    def run(self) -> Run:
        """Return the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make an instruction message."""
        return with_sender(Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl))

    def get_node_ids(self) -> Iterable[int]:
        """Return all node ids; every node is there from the start."""
        return list(self.partition_of)

    def pull_messages(  # type: ignore[override]  # the form of Flower 1.43; calls in the older form fit it too
        self, reply_to_message_ids: Iterable[str] | None = None, *, message_ids: Iterable[str] | None = None
    ) -> Iterable[Message]:
        """Return those replies that have come, each once.

        Parameters
        ----------
        reply_to_message_ids : iterable of str, optional
            Of the messages whose replies are wanted; by default of all messages. Not every Flower knows the default.
        message_ids : iterable of str, optional
            The same, under the name that it has until Flower 1.42.

        Raises
        ------
        TypeError
            If both are given.
        """
        return self._pull(wanted_ids(reply_to_message_ids, message_ids))

    @abstractmethod
    def _pull(self, wanted: list[str] | None) -> list[Message]:
        """Return those replies to these messages, or to all, that have come, each once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the nodes and whatever was started for them."""

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _next_message_id(self) -> str:
        return str(next(self._message_ids))


def run_server_app(app: ServerApp, grid: LocalGrid) -> None:
    """Run an unchanged ServerApp on one of our grids."""
    app(grid, server_context(grid.run.run_id, grid.run_config))
