"""What is asked of every reply, be it to training or to evaluation: one, of a node that was asked, with metrics to read."""

from __future__ import annotations

import math
import operator
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from flwr.app import Message

from flwr_robustcomp.flower import LOG, SERVER_NODE_ID, Metadata
from flwr_robustcomp.strategies.report import STRANGERS, Reason, Rejection

__all__ = [
    "RESERVED",
    "Metrics",
    "Rejected",
    "by_node",
    "check_asked",
    "counted_drops",
    "is_finite",
    "only",
    "read_metrics",
    "rejections",
    "sender",
    "shown",
]

Metrics = dict[str, int | float | list[int] | list[float]]

RESERVED = "robustcomp."
"""Before the names of the metrics that a strategy of ours reports itself. A client's metric may not have such a name."""

_MAX_WEIGHT = 2**53
"""Counts above this are not exact as floats, and no client has as many examples."""

_MAX_METRICS = 1024
_MAX_METRIC_NAME = 256  # characters
_MAX_METRIC_NUMBERS = 65536  # in all lists together
_MAX_DROPPED_NAMES = 64  # that a report keeps


class Rejected(Exception):
    """A reply fails a test; never leaves `screen` and `EvaluationReceiver.screen`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def by_node(
    replies: Iterable[Message], requests: Mapping[int, Metadata]
) -> tuple[list[tuple[int, list[Message]]], list[Rejection]]:
    """Return the replies of each node, by ascending node id, and rejections of what has no sender that can be read.

    The replies of the SuperLink for a lost node count as the node's. What has no sender counts as the `STRANGERS`', and so does
    the end of replies that break off: those that came before are read.
    """
    asked = {request.message_id: node for node, request in requests.items() if request.message_id}
    groups: dict[int, list[Message]] = {}
    lost: list[Rejection] = []
    try:
        for message in replies:
            try:
                groups.setdefault(sender(message, asked), []).append(message)
            except Exception as error:  # noqa: BLE001 - as in `screen`
                lost += rejections(STRANGERS, [message], error)
    except Exception as error:  # noqa: BLE001 - a Grid's own, in the middle of its replies
        lost += rejections(STRANGERS, [], error)
    return sorted(groups.items()), lost


def sender(message: Message, asked: Mapping[str, int]) -> int:
    """Return the node that a reply is of: for an error that the SuperLink answers itself, the one that was asked.

    Parameters
    ----------
    message : Message
        A reply.
    asked : mapping of str to int
        Message ids of the requests, and whom they went to.

    Raises
    ------
    Rejected
        If the sender is no number of 64 bits, which is what Flower's messages carry.
    """
    source = message.metadata.src_node_id
    if source == SERVER_NODE_ID and message.has_error():
        source = asked.get(message.metadata.reply_to_message_id, source)
    try:
        node = int(operator.index(source))  # a Grid of one's own may number its nodes by numpy's integers
    except TypeError:
        node = None
    if node is None or not -(2**63) <= node < 2**64:
        raise Rejected(Reason.UNREADABLE, f"the sender must be a node id, got {shown(source)}")
    return node


def only(messages: Sequence[Message]) -> Message:
    """Return the one reply of a node, if it is one and not an error."""
    if all(message.has_error() for message in messages):
        raise Rejected(Reason.ERROR_REPLY, "")
    if len(messages) > 1:
        raise Rejected(Reason.DUPLICATE, f"{len(messages)} replies in one round")
    return messages[0]


def rejections(node_id: int, messages: Sequence[Message], error: Exception) -> list[Rejection]:
    """Return why a node's replies were not read; each error by itself, for the SuperLink answers for all lost nodes.

    The last lines are a net below the tests of this module. A fault in a decoder must cost the reply that found it, not the
    run; it is not what anything here relies on. The debug log has where it happened, without the exception's own lines: these
    can quote the reply.
    """
    if isinstance(error, Rejected) and error.reason is Reason.ERROR_REPLY:
        return [Rejection(node_id, error.reason, _error_of(message), _code_of(message)) for message in messages]
    if isinstance(error, Rejected):
        return [Rejection(node_id, error.reason, str(error))]
    rejection = Rejection(node_id, Reason.UNREADABLE, f"{type(error).__name__}: {_words_of(error)}")
    where = "".join(traceback.format_tb(error.__traceback__, limit=-8))
    LOG.debug("a reply of node %d could not be read: %s\n%s", node_id, rejection.detail, where)
    return [rejection]


def _words_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception of a foreign class; its name must do
        return "without words"


def check_asked(message: Message, node_id: int, nodes: AbstractSet[int], requests: Mapping[int, Metadata]) -> None:
    """Reject a reply of a node that was not asked, or to something else than it was asked.

    Notes
    -----
    Flower's `send_and_receive` returns replies to the ids that it pushed and no others. Grids, Flower's and ours, write those
    ids into the requests; where one does not, the type of the message is all that is checked.
    """
    metadata = message.metadata
    if node_id not in nodes:
        raise Rejected(Reason.NOT_ASKED, "the node was not sampled in this round")
    request = requests.get(node_id)
    if request is None:
        return
    if metadata.message_type != request.message_type:
        raise Rejected(Reason.NOT_ASKED, f"the reply is to a request of type {metadata.message_type[:64]!r}")
    if request.message_id and metadata.reply_to_message_id != request.message_id:
        raise Rejected(Reason.NOT_ASKED, "the reply is to another message than this round's")


def _error_of(message: Message) -> str:
    try:
        reason, code = message.error.reason, message.error.code
        if isinstance(reason, str) and reason:
            return reason
        return f"code {shown(code)}" if reason is None or reason == "" else f"reason {shown(reason)}, code {shown(code)}"
    except Exception:  # noqa: BLE001 - an error of a foreign class is an error all the same
        return "an error that cannot be read"


def _code_of(message: Message) -> int | None:
    try:
        code = operator.index(message.error.code)
    except Exception:  # noqa: BLE001 - as above
        return None
    return code if abs(code) < 2**31 else None


def read_metrics(
    record: Mapping[str, Any], weight_key: str, weight_required: bool, *, ours: Collection[str] = ()
) -> tuple[Metrics, list[str]]:
    """Return a client's metrics that are finite, and the names of the others; a reply is not worth less for a NaN.

    A metric can be undefined on honest data: the area under a curve, say, where a client has examples of one class only.

    Parameters
    ----------
    record : mapping of str
        What the client sent.
    weight_key : str
        The metric that counts examples.
    weight_required : bool
        Whether it must be there, as one number in (0, 2^53]. Elsewhere a count that is not plausible is dropped too.
    ours : collection of str
        Reserved names that a mod of ours may have used.

    Returns
    -------
    metrics : dict
        Finite numbers, or lists of them; the weight among them if it is plausible.
    dropped : list of str
        Metrics that hold NaN, infinity or a number beyond floats; their names are printable.

    Raises
    ------
    Rejected
        For metrics that are too many, badly named, or no numbers, and for a required weight that is missing or not plausible.
    """
    numbers_in_lists = sum(len(value) for value in record.values() if isinstance(value, list))
    if len(record) > _MAX_METRICS or numbers_in_lists > _MAX_METRIC_NUMBERS:
        bound = f"{_MAX_METRICS} metrics with {_MAX_METRIC_NUMBERS} numbers in lists"
        raise Rejected(Reason.METRICS, f"a reply has at most {bound}, got {len(record)} with {numbers_in_lists}")
    if longest := max((len(name) for name in record if len(name) > _MAX_METRIC_NAME), default=0):
        raise Rejected(Reason.METRICS, f"the name of a metric has at most {_MAX_METRIC_NAME} characters, got {longest}")
    for name in record:
        if not name.isprintable():  # Flower logs a round's metrics under the names that clients chose
            raise Rejected(Reason.METRICS, f"the name of a metric must be printable, got {name!r}")
        if name.startswith(RESERVED) and name not in ours:
            raise Rejected(Reason.METRICS, f"the names of metrics under {RESERVED!r} are the server's own, got {name[:64]!r}")
    metrics: Metrics = {}
    dropped: list[str] = []
    for key, value in record.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(map(_is_number, numbers)):
            raise Rejected(Reason.METRICS, f"metric {key[:64]!r} must be numbers")
        if all(map(is_finite, numbers)) and (key != weight_key or _is_weight(value)):
            metrics[key] = value
        else:
            dropped.append(key)
    if weight_required and weight_key not in metrics:
        got = shown(record.get(weight_key))
        raise Rejected(Reason.METRICS, f"metric {weight_key!r} must be one number in (0, 2**53], got {got}")
    return metrics, dropped


def counted_drops(dropped: Iterable[str]) -> dict[str, int]:
    """Return how many replies lost each metric; beyond 64 names, which liars can choose, the others are counted together."""
    counts = Counter(dropped)
    named = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MAX_DROPPED_NAMES])
    rest = counts.total() - sum(named.values())
    return {**named, "(others)": rest} if rest else named


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= _MAX_WEIGHT


def shown(value: object) -> str:
    """Return what a rejection says about a foreign value: short, and without writing out a large one first.

    Python refuses to write an int of more than 4300 digits: ``str`` would raise.
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | str | bytes):
        return f"a {type(value).__name__} of {len(value)}"
    return str(value) if value is None or isinstance(value, int | float) else f"a {type(value).__name__}"


def is_finite(number: int | float) -> bool:
    """Whether a number is finite as a float; an int may be too large for one."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
