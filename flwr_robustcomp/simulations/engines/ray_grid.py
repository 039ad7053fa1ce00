"""Nodes on Ray actors: each actor keeps a shard of the nodes, with their state and data, for the whole run."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import time
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.flower import UNKNOWN_ERROR, Metadata, addressed, envelope
from flwr_robustcomp.simulations.engines.grid import LocalGrid
from flwr_robustcomp.simulations.engines.parcel import Parcel, seal, unseal
from flwr_robustcomp.simulations.engines.ray_session import gpu_share, ray_session
from flwr_robustcomp.simulations.engines.shard import NodeShard
from flwr_robustcomp.simulations.scenario import RunConfig

__all__ = ["RayGrid"]


class _ShardActor:
    """Runs on a Ray worker; handles a batch of messages that share one content."""

    def __init__(self, *shard: Any) -> None:
        import torch  # noqa: PLC0415 (in the worker)

        # One core an actor: threads of several actors would fight over the same cores.
        torch.set_num_threads(1)
        self._shard = NodeShard(*shard)
        gc.freeze()  # what is imported stays: collections in the rounds need not walk through it

    def ready(self) -> None:
        """Return once the actor has been constructed."""

    def handle(self, content: Parcel, batch: bytes) -> Parcel:
        shared = unseal(content)
        return seal(self._shard.handle_all([addressed(shared, metadata) for metadata in pickle.loads(batch)]))

    def states(self) -> Parcel:
        return seal(self._shard.states())

    def restore(self, states: Parcel) -> None:
        self._shard.restore(unseal(states))


class RayGrid(LocalGrid):
    """A Flower Grid on Ray actors, on this machine or on an existing cluster.

    Parameters
    ----------
    client_app : ClientApp or str
        Unchanged, or ``"package.module:attribute"``, which each worker imports for itself.
    num_nodes : int
        m.
    num_workers : int, optional
        How many actors share the nodes; by default one for each of Ray's cores. Results do not depend on it.
    ray_address : str, optional
        Of an existing cluster; by default Ray is started here and stopped by `close`.
    run_config : dict, optional
        What every app sees as its run config.

    Raises
    ------
    ConfigurationError
        If nothing answers at ``ray_address``, or the ClientApp cannot be imported.

    Notes
    -----
    A content that several messages share, such as the round's model, goes into the object store once and reaches each
    actor once. An actor that dies turns its nodes' messages into error replies; the run goes on without them.
    """

    def __init__(
        self,
        client_app: ClientApp | str,
        num_nodes: int,
        *,
        num_workers: int | None = None,
        ray_address: str | None = None,
        run_config: RunConfig | None = None,
    ) -> None:
        super().__init__(num_nodes, run_config)
        require(num_workers is None or num_workers >= 1, "num_workers", num_workers, "at least 1")
        self._stack = contextlib.ExitStack()
        self._ray = self._stack.enter_context(ray_session(ray_address))
        try:
            workers = num_workers or int(self._ray.cluster_resources().get("CPU", 1))
            workers = max(1, min(workers, num_nodes))
            actor = self._ray.remote(num_cpus=0, num_gpus=gpu_share(self._ray, workers))(_ShardActor)
            config = self._ray.put(self.run_config)
            self._actors = [
                actor.remote(client_app, range(i, num_nodes, workers), num_nodes, self.run.run_id, config)
                for i in range(workers)
            ]
            try:
                self._ray.get([a.ready.remote() for a in self._actors])
            except self._ray.exceptions.RayActorError as error:
                why = str(error).strip().splitlines()[-1].removeprefix("flwr_robustcomp.errors.ConfigurationError: ")
                raise ConfigurationError(f"client_app must load on Ray's workers, got {client_app!r}: {why}") from error
        except BaseException:
            self._stack.close()
            raise
        self._pending: dict[Any, list[Metadata]] = {}
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages to the actors of their nodes; return the messages' ids at once."""
        ids: list[str] = []
        contents: dict[int, RecordDict] = {}
        batches: dict[int, dict[int, list[Metadata]]] = {}
        for message in messages:
            metadata = envelope(message, self._next_message_id())
            ids.append(metadata.message_id)
            contents[id(message.content)] = message.content
            # A node that is not there is the first worker's, whose reply says so.
            worker = self.partition_of.get(metadata.dst_node_id, 0) % len(self._actors)
            batches.setdefault(id(message.content), {}).setdefault(worker, []).append(metadata)
        for key, by_worker in batches.items():
            parcel = seal(contents[key])
            content = self._ray.put(parcel) if parcel[2] else parcel
            for worker, batch in by_worker.items():
                packed = pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)
                self._pending[self._actors[worker].handle.remote(content, packed)] = batch
        return ids

    def _pull(self, wanted: list[str] | None) -> list[Message]:
        pushed = (metadata.message_id for batch in self._pending.values() for metadata in batch)
        ids = [*self._replies, *pushed] if wanted is None else wanted
        self._collect(ids, timeout=0)
        return [self._replies.pop(message_id) for message_id in ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, wait until all replies or the timeout have come, pull."""
        ids = list(self.push_messages(messages))
        self._collect(ids, timeout=timeout)
        return self.pull_messages(ids)

    def node_states(self) -> dict[int, RecordDict]:
        """Return `Context.state` of every node by its id; nodes whose actor has died have lost theirs and are left out."""
        states: dict[int, RecordDict] = {}
        for reference in [actor.states.remote() for actor in self._actors]:
            with contextlib.suppress(self._ray.exceptions.RayActorError):
                states |= unseal(self._ray.get(reference))
        return states

    def restore_node_states(self, states: Mapping[int, RecordDict]) -> None:
        """Put states in the place of the nodes' own; a node without one is as new."""
        by_actor: list[dict[int, RecordDict]] = [{} for _ in self._actors]
        for node, state in states.items():
            if node in self.partition_of:
                by_actor[self.partition_of[node] % len(self._actors)][node] = state
        self._ray.get([actor.restore.remote(seal(own)) for actor, own in zip(self._actors, by_actor, strict=True)])

    def close(self) -> None:
        """Stop the actors, and Ray if it was started here."""
        for actor in self._actors:
            with contextlib.suppress(Exception):  # an actor that is gone already needs no stopping
                self._ray.kill(actor)
        self._actors = []
        self._stack.close()

    def _collect(self, message_ids: Iterable[str], *, timeout: float | None) -> None:
        """Move batches to the replies as they finish, until those of these messages have or the timeout is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted = set(message_ids)
        while any(metadata.message_id in wanted for batch in self._pending.values() for metadata in batch):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            done, _ = self._ray.wait(list(self._pending), timeout=left)
            if not done:
                return
            batch = self._pending.pop(done[0])
            try:
                replies = unseal(self._ray.get(done[0]))
            except self._ray.exceptions.RayError as error:
                replies = [_lost(metadata, error) for metadata in batch]
            self._replies.update({reply.metadata.reply_to_message_id: reply for reply in replies})


def _lost(metadata: Metadata, error: Exception) -> Message:
    """Return the error reply of a node whose worker is gone."""
    request = addressed(RecordDict(), copy.copy(metadata))
    cause = getattr(error, "cause", None)  # what the worker raised, where it lives on
    reason = f"{type(cause).__name__}: {cause}" if cause is not None else str(error) or type(error).__name__
    return Message(
        Error(code=UNKNOWN_ERROR, reason=f"the node's Ray worker failed: {reason.strip().splitlines()[0]}"), reply_to=request
    )
