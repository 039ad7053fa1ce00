"""The model that a node trains from, for whoever must know it without being the node: a simulation's adversary."""

from __future__ import annotations

from flwr.app import ArrayRecord, Message

from flwr_robustcomp.downlink import Form
from flwr_robustcomp.downlink.records import HEADER, Header
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing

__all__ = ["known_model"]


def known_model(outgoing: Outgoing, message: Message) -> ArrayRecord | None:
    """Return the dense model that a node gets from a message.

    Parameters
    ----------
    outgoing : Outgoing
        The server's. It has packed the message in this round, or left it as it is.
    message : Message
        What the node gets.

    Returns
    -------
    ArrayRecord or None
        The replica in the model's dtypes, the quantised model, or the message's own; None where it has no model.
    """
    content, ring = message.content, outgoing._ring
    if HEADER not in content:
        plain = content.get(outgoing.key)
        return plain if isinstance(plain, ArrayRecord) else None
    if ring is None or Header.read(content[HEADER]).form is Form.QUANTISED:
        return outgoing._shot.unpacked
    return ring.model
