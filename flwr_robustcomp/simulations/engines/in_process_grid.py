"""All nodes in this process, one after the other: no start-up, nothing to stop, easy to debug."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp.flower import envelope
from flwr_robustcomp.simulations.engines.grid import LocalGrid
from flwr_robustcomp.simulations.engines.shard import NodeShard
from flwr_robustcomp.simulations.scenario import RunConfig

__all__ = ["InProcessGrid"]


class InProcessGrid(LocalGrid):
    """A Flower Grid that calls the ClientApp directly.

    Parameters
    ----------
    client_app : ClientApp or str
        Unchanged, or ``"package.module:attribute"``.
    num_nodes : int
        m.
    run_config : dict, optional
        What every app sees as its run config.

    Notes
    -----
    Messages are handled when they are pushed, so ``timeout`` has no effect. Every node gets its own copy of a message's
    containers; the immutable bytes of the model are shared.
    """

    def __init__(self, client_app: ClientApp | str, num_nodes: int, *, run_config: RunConfig | None = None) -> None:
        super().__init__(num_nodes, run_config)
        self._shard = NodeShard(client_app, range(num_nodes), num_nodes, self.run.run_id, self.run_config)
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the nodes on their messages; return the messages' ids."""
        delivered = list(messages)
        for message in delivered:
            envelope(message, self._next_message_id())
        if delivered:
            self._replies.update({r.metadata.reply_to_message_id: r for r in self._shard.handle_all(delivered)})
        return [message.metadata.message_id for message in delivered]

    def _pull(self, wanted: list[str] | None) -> list[Message]:
        ids = list(self._replies) if wanted is None else wanted
        return [self._replies.pop(message_id) for message_id in ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull."""
        return self.pull_messages(self.push_messages(messages))

    def node_states(self) -> dict[int, RecordDict]:
        """Return `Context.state` of every node by its id."""
        return self._shard.states()

    def restore_node_states(self, states: Mapping[int, RecordDict]) -> None:
        """Put states in the place of the nodes' own; a node without one is as new."""
        self._shard.restore(states)

    def close(self) -> None:
        """Forget replies that nobody pulled."""
        self._replies.clear()
