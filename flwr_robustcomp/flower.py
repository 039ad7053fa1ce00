"""Every touch of Flower's internals, in one place, so that a Flower that changes them breaks one file and one test.

Used by our own grids only: under `flwr run` and in a deployment Flower does all of this itself.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.metadata import Metadata
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "LOG",
    "SERVER_NODE_ID",
    "Metadata",
    "Run",
    "addressed",
    "assume_identity",
    "empty_run",
    "envelope",
    "private_copy",
    "quick_reply",
    "server_context",
]

LOG = logging.getLogger("flwr")
"""Flower's own log, so that our lines stand among its."""

SERVER_NODE_ID = 1
"""The node id that Flower's SuperLink uses for itself."""


def assume_identity(run_id: int, node_id: int = SERVER_NODE_ID) -> None:
    """Give this process the identity that Flower's runners set before an app may construct a `Message`."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id


def empty_run(run_id: int) -> Run:
    """Make the `Run` that a Grid carries."""
    return Run.create_empty(run_id)


def envelope(message: Message, message_id: str) -> Metadata:
    """Give a message the id that the SuperLink would have given it, in place; return its metadata."""
    message.metadata.__dict__["_message_id"] = message_id
    return message.metadata


def addressed(content: RecordDict, metadata: Metadata) -> Message:
    """Join content and metadata to the message that a node receives."""
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload, no-any-return]  # internal signature


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
    norms: ConfigRecord | None,
    created_at: float,
    *,
    norm_record: str,
    more: Mapping[str, float] | None = None,
) -> Message:
    """Return the reply to a message: ``arrays`` and ``metrics`` under their usual names, and reported norms if there are any.

    Parameters
    ----------
    message : Message
        The request.
    arrays : mapping of str to (dtype, shape, stype, data)
        The packed Arrays.
    metrics : MetricRecord
        Copied.
    norms : ConfigRecord, optional
        Taken as it is.
    created_at : float
        Unix time of the batch.
    norm_record : str
        The name of the record of norms.
    more : mapping of str to float, optional
        Metrics of this reply alone.
    """
    record = ArrayRecord()
    record.__dict__["_data"].update({name: _quick_array(*fields) for name, fields in arrays.items()})
    own = metrics.copy()
    if more:
        own.__dict__["_data"].update(more)
    content = RecordDict()
    content.__dict__["_data"].update(arrays=record, metrics=own)
    if norms is not None:
        content.__dict__["_data"][norm_record] = norms
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
