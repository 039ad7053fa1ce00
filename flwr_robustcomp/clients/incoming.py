"""What comes down to a node: the model is unpacked before anybody's code sees it, and the replica is kept between rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from flwr_robustcomp import wire
from flwr_robustcomp.downlink.form import Form
from flwr_robustcomp.downlink.records import (
    HEADER,
    HELD,
    NOTHING,
    RESEND,
    Header,
    Held,
    Kept,
    Resend,
    arrays_digest,
    narrow_dtypes,
    part_of,
    read_changes,
    read_snapshot,
)
from flwr_robustcomp.downlink.replica import Replica
from flwr_robustcomp.errors import WireError
from flwr_robustcomp.flower import LOG, private_copy
from flwr_robustcomp.one_slot import OneSlot

__all__ = ["ARRAYS", "Received", "Unreadable", "receive", "with_model"]

ARRAYS = "robustcomp.replica.arrays"
"""Name of the ArrayRecord in `Context.state` that keeps the replica; the record `HELD` beside it says which version it is."""


@dataclass(frozen=True)
class Received:
    """A model that came packed.

    Attributes
    ----------
    key : str
        Of its ArrayRecord in the message.
    model : ArrayRecord
        Dense; shared with other nodes of the process, and not to be written to.
    held : Held
        What the node holds from now on, to be told to the server.
    kept : mapping of str to record
        What the node keeps of it, by the names in `Context.state`.
    """

    key: str
    model: ArrayRecord
    held: Held
    kept: Mapping[str, ArrayRecord | ConfigRecord]


class Unreadable(Exception):
    """A model that this node cannot read; says what the node holds."""

    def __init__(self, why: str, held: Held) -> None:
        super().__init__(why)
        self.held = held


def with_model(message: Message, context: Context, handle: Callable[[Message], Message]) -> Message:
    """Unpack what came down, let the node answer it, and tell the server what the node holds.

    Parameters
    ----------
    message : Message
        The server's. A packed model is replaced by the dense one, in place.
    context : Context
        The node's.
    handle : callable
        Whatever answers a message with a dense model.

    Returns
    -------
    Message
        The answer. Where the model cannot be read, a small one that asks for it again; ``handle`` is not called then.
    """
    try:
        received = receive(message.content, context.state)
    except Unreadable as error:
        LOG.warning("The model cannot be read, and is asked for again: %s", error)
        resend = Resend(version=error.held.version, digest=error.held.digest, why=str(error)[:200])
        return Message(RecordDict({RESEND: resend.record()}), reply_to=message)
    if received is None:
        return handle(message)
    message.content[received.key] = private_copy(RecordDict({received.key: received.model}))[received.key]
    del message.content[HEADER]
    answer = handle(message)
    if not answer.has_error():  # an error does not say what the node holds, so that it then holds what it held
        context.state.update(received.kept)
        answer.content[HELD] = received.held.record()
    return answer


def receive(content: RecordDict, state: RecordDict) -> Received | None:
    """Read the model of a message; None where it is not packed. Neither argument is changed.

    Raises
    ------
    Unreadable
        If the node does not hold what the message builds on, or the message is not one that an honest server sends.
    """
    if HEADER not in content:
        return None
    held = _held(state)
    try:
        header = Header.read(content[HEADER])
        arrays = content.get(header.key)
        if not isinstance(arrays, ArrayRecord):
            raise WireError(f"{header.key[:64]!r} must be an ArrayRecord, got {type(arrays).__name__}")
        return _READERS[header.form](header, arrays, held, state)
    except WireError as error:
        raise Unreadable(str(error), held) from error


def _read_quantised(header: Header, arrays: ArrayRecord, held: Held, state: RecordDict) -> Received:
    model = _QUANTISED.get([], arrays_digest(arrays), lambda: wire.to_arrays(_after(Replica.empty(), arrays).model()))
    return Received(header.key, model, held, {})  # a replica that it holds may be built upon later


def _read_replica(header: Header, arrays: ArrayRecord, held: Held, state: RecordDict) -> Received:
    there = held == header.target  # its last reply was lost, or came too late
    if header.base and header.source != held and not there:  # from version 0 on anybody can build
        raise WireError(f"the message builds on {header.source}, this node holds {held}")
    changes = [] if there else read_changes(arrays, header)

    def make() -> _Version:
        replica = _replica_in(state, held) if header.base or there else Replica.empty()
        for change in changes:
            replica = _after(replica, change)
        return _checked(replica, header.target)

    return _received(header, make)


def _read_snapshot(header: Header, arrays: ArrayRecord, held: Held, state: RecordDict) -> Received:
    return _received(header, lambda: _checked(read_snapshot(arrays, header.version, header.dtypes), header.target))


_READERS = {Form.QUANTISED: _read_quantised, Form.REPLICA: _read_replica, Form.DENSE: _read_snapshot}


@dataclass(frozen=True)
class _Version:
    """A version as a node keeps it, and the model that it stands for; one object for all nodes of a process that hold it."""

    arrays: ArrayRecord
    dtypes: tuple[str, ...]
    model: ArrayRecord


_QUANTISED: OneSlot[ArrayRecord] = OneSlot()
_VERSION: OneSlot[_Version] = OneSlot()


def _received(header: Header, make: Callable[[], _Version]) -> Received:
    # The digest says what a version holds, so that a version that this process has made need not be made again.
    held = header.target
    version = _VERSION.get([], held, make)
    kept = Kept(version=held.version, digest=held.digest, dtypes=version.dtypes)
    return Received(header.key, version.model, held, {ARRAYS: version.arrays, HELD: kept.record()})


def _after(replica: Replica, change: Mapping[str, Array]) -> Replica:
    return replica.after({name: part_of(array, name, replica) for name, array in change.items()})


def _checked(replica: Replica, target: Held) -> _Version:
    """Return a replica to be kept, if it is the server's."""
    found = Held(version=replica.version, digest=replica.digest)
    if found != target:
        raise WireError(f"the message makes {target}, this node got {found}")
    arrays = wire.shared_arrays(replica.arrays)
    dtypes = narrow_dtypes(replica)
    return _Version(arrays, dtypes, wire.to_arrays(replica.model()) if dtypes else arrays)


def _held(state: RecordDict) -> Held:
    """Return which version a node holds; none where what it keeps is not of this format, which it then says."""
    if HELD not in state:
        return NOTHING
    try:
        kept = Kept.read(state[HELD])
    except WireError as error:
        LOG.warning("Replica dropped, of another format than this version's: %s", error)
        return NOTHING
    return kept.held if isinstance(state.get(ARRAYS), ArrayRecord) else NOTHING


def _replica_in(state: RecordDict, held: Held) -> Replica:
    """Return the replica that a node keeps; `WireError` if it cannot be read, which a dense one from the server mends."""
    arrays = state.get(ARRAYS)
    if not isinstance(arrays, ArrayRecord):
        raise WireError("the replica is gone")
    return read_snapshot(arrays, held.version, Kept.read(state[HELD]).dtypes)
