"""Rounds in which every node fails for one and the same reason, which is then a configuration's fault and no client's."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from flwr_robustcomp.strategies.report import UNAVAILABLE, Reason, Rejection

__all__ = ["common_fault"]

_OWN_FAULTS = {Reason.RECORDS, Reason.ARRAYS, Reason.WIRE, Reason.NORM, Reason.METRICS, Reason.SIZE, Reason.UNREADABLE}
"""Reasons that say what a reply holds. The others say who sent it, or how often."""

_MANY = 10
"""So many nodes are believed although most nodes were not asked: chance alone does not draw that many from a minority."""

_VARYING = re.compile(r"[-+]?[\w.,-]*\d[\w.,-]*")
"""Addresses, identifiers and numbers, which is every word with a digit in it: what differs between nodes that fail alike."""

_IF_ZEROS = "non-zeros+"
"""In the name of a codec where a node's update has zeros, which others need not have."""


def common_fault(rejected: Sequence[Rejection], asked: Collection[int], connected: int) -> str | None:
    """Return what all nodes of a round failed for, and what to do; None unless all of them failed alike.

    Parameters
    ----------
    rejected : sequence of Rejection
        Those of the round, in which no reply was accepted.
    asked : collection of int
        Node ids.
    connected : int
        How many nodes could have been asked.

    Returns
    -------
    str or None
        One line. Nodes fail alike if they have the same reason and the same words, numbers aside. That a node or a message is
        not available is no such reason.

    Notes
    -----
    Whoever can make every node of a round fail can stop the run. Two nodes at least must have been asked, and among them most
    of the connected ones, or ten: a minority of the nodes does not make up a whole round, but by chance in a small sample.
    """
    if len(asked) < 2 or (2 * len(asked) <= connected and len(asked) < _MANY):
        return None
    of_asked = [one for one in rejected if one.node_id in asked]
    if {one.node_id for one in of_asked} != set(asked) or not all(map(_tells_of_the_app, of_asked)):
        return None
    first = of_asked[0]
    if any(one.reason != first.reason or _words(one) != _words(first) for one in of_asked):
        return None
    return f"all {len(asked)} nodes of the round failed alike ({first.reason}): {first.detail}. {_advice(first)}"


def _tells_of_the_app(one: Rejection) -> bool:
    if one.reason is Reason.ERROR_REPLY:
        return one.code is not None and one.code not in UNAVAILABLE
    return one.reason in _OWN_FAULTS


def _words(one: Rejection) -> str:
    return _VARYING.sub("#", one.detail.replace(_IF_ZEROS, ""))


_LIST_THE_MOD = "List CompressionMod or configured_mod in ClientApp(mods=[...])"
_SAME_COMPRESSOR = "Give clients and server the same compressor: configured_mod and Settings read both from one table"
_ADVICE = {
    Reason.ARRAYS: f"{_LIST_THE_MOD}, with the server's granularity and uncompressed",
    Reason.ERROR_REPLY: "The text is the clients' own; their log has where it was raised",
    Reason.METRICS: "Change what the training function reports",
    Reason.NORM: "Set CompressionMod(report_norm=...) to the server's norm_order",
    Reason.RECORDS: "Reply with one ArrayRecord, or with the model under the strategy's arrayrecord_key",
    Reason.SIZE: "Send less beside the model, or set strategy.receiver.models_per_reply",
    Reason.UNREADABLE: "Reply with records of Flower's own types",
}


def _advice(one: Rejection) -> str:
    if one.reason is Reason.WIRE:
        return _LIST_THE_MOD if "got 'numpy.ndarray'" in one.detail else _SAME_COMPRESSOR
    return _ADVICE[one.reason]
