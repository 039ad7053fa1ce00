"""Every touch of Flower's internals, in one place, so that a Flower that changes them breaks one file and one test.

Most of it serves our own grids: under `flwr run` and in a deployment Flower does this itself. Where versions differ, the
difference is found by looking for the name or the parameter, never by comparing version numbers. docs/how-to/flower-versions.md
lists the versions.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.metadata import Metadata
from flwr.common import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    Parameters,
    Scalar,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.criterion import Criterion
from flwr.server.strategy import Strategy as OldApiStrategy
from flwr.serverapp.strategy import Result, Strategy

from flwr_robustcomp.errors import ConfigurationError

__all__ = [
    "LOG",
    "SERVER_NODE_ID",
    "UNKNOWN_ERROR",
    "ClientManager",
    "ClientProxy",
    "Code",
    "Criterion",
    "EvaluateIns",
    "EvaluateRes",
    "FitIns",
    "FitRes",
    "Metadata",
    "OldApiStrategy",
    "Parameters",
    "Run",
    "Scalar",
    "addressed",
    "answering",
    "assume_identity",
    "empty_run",
    "envelope",
    "flower_version",
    "ndarrays_to_parameters",
    "parameters_to_ndarrays",
    "private_copy",
    "quick_reply",
    "sent_again",
    "server_context",
    "start_options",
    "wanted_ids",
    "with_sender",
]


def flower_version() -> str:
    """Return the version of the Flower that is installed, a nightly build included."""
    for name in ("flwr-nightly", "flwr"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


try:
    from flwr.supercore.run import Run
except ImportError as error:
    raise ImportError(f"flwr_robustcomp needs Flower 1.32 or newer, found {flower_version()}") from error

try:
    from flwr.supercore.task_identity import TaskIdentity
except ImportError:

    class TaskIdentity:  # type: ignore[no-redef]
        """What stands in for Flower's class where Flower has none (before 1.38): there a message may be made by anybody.

        The grid of such a Flower writes run and sender into a message when it is pushed. `with_sender` does that for our grids.
        """

        task_id: int | None = None
        run_id: int = 0
        node_id: int = 0


LOG = logging.getLogger("flwr")
"""Flower's own log, so that our lines stand among its."""

SERVER_NODE_ID = 1
"""The node id that Flower's SuperLink uses for itself."""

UNKNOWN_ERROR = 0
"""The code of an error reply that Flower has no name for."""


def assume_identity(run_id: int, node_id: int = SERVER_NODE_ID) -> None:
    """Give this process the identity that Flower's runners set before an app may construct a `Message`."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id


def with_sender(message: Message) -> Message:
    """Write this process's run and node into a message that names none, in place; return it.

    From 1.38 on, Flower does so when the message is made. Before that, the grid did so when it was pushed.
    """
    metadata = message.metadata.__dict__
    if not metadata["_run_id"] and not metadata["_src_node_id"]:
        metadata.update(_run_id=TaskIdentity.run_id, _src_node_id=TaskIdentity.node_id)
    return message


def empty_run(run_id: int) -> Run:
    """Make the `Run` that a Grid carries."""
    return Run.create_empty(run_id)


def envelope(message: Message, message_id: str) -> Metadata:
    """Give a message the id and the sender that a pushed message has, in place; return its metadata."""
    with_sender(message).metadata.__dict__["_message_id"] = message_id
    return message.metadata


def addressed(content: RecordDict, metadata: Metadata) -> Message:
    """Join content and metadata to the message that a node receives."""
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload, no-any-return]  # internal signature


def sent_again(message: Message, content: RecordDict) -> Message:
    """Return a new message to the node of another one, of the same type and group, with its own id to come."""
    metadata = message.metadata
    return with_sender(Message(content, metadata.dst_node_id, metadata.message_type, group_id=metadata.group_id))


def answering(reply: Message, first: Mapping[str, Metadata]) -> Message:
    """Let a reply to a message that was sent again be one to the first message, in place; return it.

    Parameters
    ----------
    reply : Message
        Whatever came back.
    first : mapping of str to Metadata
        By the ids of the messages that were sent again, what was sent first.
    """
    if (asked := first.get(reply.metadata.reply_to_message_id)) is not None:
        reply.metadata.__dict__["_reply_to_message_id"] = asked.message_id
    return reply


def private_copy(content: RecordDict) -> RecordDict:
    """Copy the containers of a message's content, so that no node sees what another does to its own.

    The bytes inside the Arrays are shared: they are immutable, and copying a model for each node is what makes stock simulation
    slow.
    """
    own = content.copy()
    # Past the type checks of __setitem__: what is copied was checked when it was set.
    own.__dict__["_data"] = {key: _private_record(record) for key, record in content.items()}
    return own


def _private_record(record: Any) -> Any:
    own = record.copy()
    for name, value in record.items():
        if isinstance(value, Array | list):
            own.__dict__["_data"][name] = copy.copy(value)
    return own


def server_context(run_id: int, run_config: dict[str, str | int | float | bool]) -> Context:
    """Make the context that Flower hands to a ServerApp."""
    return Context(run_id=run_id, node_id=SERVER_NODE_ID, node_config={}, state=RecordDict(), run_config=run_config)


# -- signatures that differ -----------------------------------------------------------------------------------------------


def wanted_ids(reply_to_message_ids: Iterable[str] | None, message_ids: Iterable[str] | None) -> list[str] | None:
    """Return the ids that `Grid.pull_messages` was asked for, under either name; None where it was asked for all replies.

    Until 1.42 the parameter is ``message_ids``. In 1.43 it is ``reply_to_message_ids``, None asks for all replies, and the old
    name is left as a keyword.

    Raises
    ------
    TypeError
        If both are given, as in Flower.
    """
    if reply_to_message_ids is not None and message_ids is not None:
        raise TypeError("pull_messages takes reply_to_message_ids or message_ids, got both")
    ids = message_ids if reply_to_message_ids is None else reply_to_message_ids
    return None if ids is None else list(ids)


def start_options(should_stop: Callable[[int, Result], bool] | None) -> dict[str, Any]:
    """Return the options of `Strategy.start` that not every Flower has, to be passed on to it.

    Raises
    ------
    ConfigurationError
        If ``should_stop`` is given and this Flower has none (before 1.43).
    """
    if should_stop is None:
        return {}
    if "should_stop" not in inspect.signature(Strategy.start).parameters:
        raise ConfigurationError(
            f"should_stop must be None with Flower {flower_version()} (1.43 brings it), got {should_stop!r}"
        )
    return {"should_stop": should_stop}


# -- replies in bulk ------------------------------------------------------------------------------------------------------
#
# Flower's constructors check types and rebuild what they are given, which costs a batch of nodes more than its gradients.
# These fill the same objects directly. A test holds them equal to what the constructors make.

ArrayFields = tuple[str, tuple[int, ...], str, bytes]
"""dtype, shape, stype and data of an Array."""


def quick_reply(
    message: Message,
    arrays: Mapping[str, ArrayFields],
    metrics: MetricRecord,
    records: Mapping[str, ConfigRecord],
    created_at: float,
    *,
    more: Mapping[str, float] | None = None,
) -> Message:
    """Return the reply to a message: ``arrays`` and ``metrics`` under their usual names, and further records behind them.

    Parameters
    ----------
    message : Message
        The request.
    arrays : mapping of str to (dtype, shape, stype, data)
        The packed Arrays.
    metrics : MetricRecord
        Copied.
    records : mapping of str to ConfigRecord
        Such as reported norms; taken as they are.
    created_at : float
        Unix time of the batch.
    more : mapping of str to float, optional
        Metrics of this reply alone.
    """
    record = ArrayRecord()
    record.__dict__["_data"].update({name: _quick_array(*fields) for name, fields in arrays.items()})
    own = metrics.copy()
    if more:
        own.__dict__["_data"].update(more)
    content = RecordDict()
    content.__dict__["_data"].update(arrays=record, metrics=own, **records)
    request = message.metadata.__dict__
    metadata = Metadata.__new__(Metadata)
    metadata.__dict__.update(request)
    metadata.__dict__.update(
        _message_id="",
        _src_node_id=request["_dst_node_id"],
        _dst_node_id=request["_src_node_id"],
        _reply_to_message_id=request["_message_id"],
        _src_task_id=request["_dst_task_id"],
        _dst_task_id=request["_src_task_id"],
        _created_at=created_at,
        _ttl=request["_ttl"] - (created_at - request["_created_at"]),
        _delivered_at="",
    )
    reply = Message.__new__(Message)
    reply.__dict__.update(_metadata=metadata, _content=content, _error=None)
    return reply


def _quick_array(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Array:
    array = Array.__new__(Array)
    array.__dict__.update(dtype=dtype, shape=shape, stype=stype, data=data)
    return array
