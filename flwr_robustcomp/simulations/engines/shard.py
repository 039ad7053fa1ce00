"""A share of a simulation's nodes: their contexts stay here, messages come in, replies go out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import UNKNOWN_ERROR, addressed, assume_identity, private_copy
from flwr_robustcomp.simulations.engines.batch import Batch, BatchClientApp
from flwr_robustcomp.simulations.scenario import RunConfig

__all__ = ["NodeShard", "load_client_app", "node_id_of"]

_FIRST_NODE_ID = 1000


def node_id_of(partition: int) -> int:
    """Return the node id of a partition: fixed, so that replies sort alike on every one of our engines."""
    return _FIRST_NODE_ID + partition


def load_client_app(app: ClientApp | str) -> ClientApp:
    """Return a ClientApp, imported if it is named as ``"package.module:attribute"``."""
    if isinstance(app, ClientApp):
        return app
    module, _, attribute = app.partition(":")
    try:
        loaded = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f'client_app must be importable as "package.module:attribute", got {app!r}: {error}'
        ) from error
    if not isinstance(loaded, ClientApp):
        raise ConfigurationError(f"client_app must be a ClientApp, got {app!r}, a {type(loaded).__name__}")
    return loaded


class NodeShard:
    """Nodes that live in this process.

    Parameters
    ----------
    client_app : ClientApp or str
        What each node runs, unchanged; or where to import it from.
    partitions : iterable of int
        The nodes of this shard, by partition id.
    num_partitions : int
        The number of all nodes.
    run_id : int
        Of the run.
    run_config : dict
        Shared by all nodes, as Flower's run config is.
    """

    def __init__(
        self, client_app: ClientApp | str, partitions: Iterable[int], num_partitions: int, run_id: int, run_config: RunConfig
    ) -> None:
        assume_identity(run_id)
        self._app = load_client_app(client_app)
        self._contexts = {
            node_id_of(partition): Context(
                run_id=run_id,
                node_id=node_id_of(partition),
                node_config={"partition-id": partition, "num-partitions": num_partitions},
                state=RecordDict(),
                run_config=run_config,
            )
            for partition in partitions
        }

    def states(self) -> dict[int, RecordDict]:
        """Return `Context.state` of every node of this shard by its id."""
        return {node: context.state for node, context in self._contexts.items()}

    def restore(self, states: Mapping[int, RecordDict]) -> None:
        """Put states in the place of those of this shard's nodes; a node without one is as new."""
        for node, context in self._contexts.items():
            context.state = states.get(node, RecordDict())

    def handle_all(self, messages: Sequence[Message]) -> list[Message]:
        """Run the app on messages to different nodes; an app that raises becomes an error reply, as in a deployment.

        A `BatchClientApp` is first asked for all replies at once to the messages that share one content. There are several
        where nodes hold several versions of the replica.
        """
        if not isinstance(self._app, BatchClientApp):
            return [self._handle(message) for message in messages]
        groups: dict[int, list[Message]] = {}
        for message in messages:
            groups.setdefault(id(message.content), []).append(message)
        replies: dict[int, Message] = {}
        for group in groups.values():
            answered = self._batch(self._app.batch, group) or [self._handle(message) for message in group]
            replies.update(zip(map(id, group), answered, strict=True))
        return [replies[id(message)] for message in messages]

    def _batch(self, batch: Batch, messages: Sequence[Message]) -> list[Message] | None:
        """Return all replies at once, or None if that is not possible."""
        try:
            return batch(messages, [self._contexts[m.metadata.dst_node_id] for m in messages])
        except Exception:  # noqa: BLE001 (one by one, each node's fault becomes that node's own error reply)
            return None

    def _handle(self, message: Message) -> Message:
        own = addressed(private_copy(message.content), message.metadata)
        try:
            return self._app(own, self._contexts[message.metadata.dst_node_id])
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a client's fault must not end the run, whatever it is)
            reason = " ".join(f"the ClientApp raised {type(error).__name__}: {error}".split())
            return Message(Error(code=UNKNOWN_ERROR, reason=reason), reply_to=message)
