"""The messages of a round on their way out, and the replies on their way in: packed, counted, and sent again where need be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from flwr_robustcomp import wire
from flwr_robustcomp.downlink import Downlink, Form, cheapest
from flwr_robustcomp.downlink.records import (
    HELD,
    NOTHING,
    RESEND,
    Header,
    Held,
    Resend,
    array_bytes,
    narrow_dtypes,
    snapshot_record,
)
from flwr_robustcomp.errors import printable, require
from flwr_robustcomp.flower import LOG, Metadata, addressed, answering, sent_again
from flwr_robustcomp.strategies.downlink.broken import as_far_as_they_come, breaking_off
from flwr_robustcomp.strategies.downlink.nodes import Nodes
from flwr_robustcomp.strategies.downlink.ring import Ring
from flwr_robustcomp.strategies.downlink.sent import Sent, carries, with_model
from flwr_robustcomp.strategies.downlink.shot import Shot
from flwr_robustcomp.strategies.downlink.traffic import Traffic
from flwr_robustcomp.strategies.nodes.failing_alike import UNAVAILABLE
from flwr_robustcomp.strategies.nodes.history import RunHistory
from flwr_robustcomp.strategies.replies.common import sender
from flwr_robustcomp.strategies.report import RoundReport

__all__ = ["Outgoing"]


class Outgoing:
    """Packs the messages that a strategy sends, and reads what their replies say of it.

    A strategy hands every message that it sends through `pack`, and every reply that it gets through `collect`. Nothing else
    in it knows that there is a downlink. Without a `Downlink` messages pass as they are, and are counted.

    Parameters
    ----------
    downlink : Downlink, optional
        What may be sent; None for the dense model.
    key : str
        Of the model's ArrayRecord in the messages.
    history : RunHistory
        The strategy's: it knows the length of the model's last step.

    Attributes
    ----------
    timeout : float or None
        Seconds that a round may take, as Flower's ``start`` was told: what is sent again has what is left of it.
    traffic : Traffic
        Of the last messages that were packed.

    Notes
    -----
    *Which form a node gets* is `cheapest` of what it can read: the changes since the version that it last said it holds, the
    quantised model, the dense one. At first contact a node holds version 0, and the server does not know whether the node's
    app has a mod that unpacks. Where such a node answers with an error, it gets the dense model in the same round, and always
    from then on; one line of the log says so.

    *A node that cannot read* what it got says what it holds. It is sent the model again in the same round, ``resends`` times
    at most, within the timeout: first what leads on from the version that it names, else a dense replica. It counts as a node
    that has not replied until it does, and never as a faulty one.

    *A node that lies* about its version gets changes that it cannot use, and nothing else changes: the server keeps one integer
    a node, and sends it at most ``1 + resends`` models in a round.
    """

    def __init__(self, downlink: Downlink | None, key: str, history: RunHistory) -> None:
        require(downlink is None or isinstance(downlink, Downlink), "downlink", downlink, "a Downlink, or None")
        self.downlink = downlink
        self.key = key
        self.history = history
        self.timeout: float | None = 3600.0  # as Flower's
        self.traffic = Traffic()
        self._restored = False
        self._forget()
        self._shot = Shot(downlink)
        self._grid: Grid | None = None
        self._snapshot: ArrayRecord | None = None
        self._sent: dict[int, Sent] = {}
        self._deadline: float | None = None

    def begin(self, timeout: float | None) -> None:
        """Begin a run: forget what an earlier one left, unless it goes on from a checkpoint."""
        self.timeout = timeout
        if not self._restored:
            self._forget()
        self._restored = False

    def _forget(self) -> None:
        """Begin a replica that no node holds."""
        self._ring = Ring(self.downlink) if self.downlink is not None and self.downlink.rungs else None
        self._nodes = Nodes()

    def pack(self, arrays: ArrayRecord, messages: Iterable[Message], grid: object) -> list[Message]:
        """Pack the model in messages that are about to be sent.

        Parameters
        ----------
        arrays : ArrayRecord
            The model, w.
        messages : iterable of Message
            A strategy's. One whose model is another than ``arrays`` passes as it is.
        grid : object
            What sends them; to any but a Grid, such as that of the old API, the dense model goes.

        Returns
        -------
        list of Message
            Messages to nodes that get the same share one content.
        """
        plain = list(messages)
        self.traffic, self._sent = Traffic(), {}
        self._deadline = None if self.timeout is None else time.monotonic() + self.timeout
        if self.downlink is None or not isinstance(grid, Grid) or not plain:
            self.traffic.count([message.content for message in plain], [message.content for message in plain])
            return plain
        self._grid = grid
        self._shot.aim(arrays)
        if self._ring is not None and self._nodes.moves(arrays):
            if not self._ring.fits(model := wire.shared_tensors(arrays)):
                LOG.warning("\t> the model has other arrays than it had: the replica begins anew")
                self._ring = Ring(self._ring.downlink)
                self._nodes.lose_versions()
            self._ring.advance(model, self.history.last_step, self._shot.size or self._shot.dense)
        contents: dict[tuple[int, Held | None], RecordDict] = {}  # nodes that get the same share it
        packed: list[Message] = []
        for message in plain:
            node, content = message.metadata.dst_node_id, message.content
            held = NOTHING if self._ring is None else self._ring.at(self._nodes.version(node))
            kind = message.metadata.message_type.partition(".")[0]
            once = node not in self._sent  # of more messages to a node, only the first is packed
            form = self._form(node, kind, held) if once and carries(content, self.key, arrays) else Form.DENSE
            base = held if form is Form.REPLICA else None
            if form is not Form.DENSE and (id(content), base) not in contents:
                contents[id(content), base] = self._content(content, base)
            sent = message if form is Form.DENSE else addressed(contents[id(content), base], message.metadata)
            packed.append(sent)
            self._sent.setdefault(node, Sent(sent, content, base))
            self.traffic.forms[form] += 1
        self.traffic.count([message.content for message in packed], [message.content for message in plain])
        return packed

    def collect(self, replies: Iterable[Message]) -> Iterable[Message]:
        """Return a round's replies as if every node had got the dense model; send again where a node asks for it.

        What is foreign is believed in nothing: a reply that cannot be looked at passes, for screening to reject.
        """
        if self.downlink is None:
            return replies
        left, broken = as_far_as_they_come(lambda: replies)
        answered: list[Message] = []
        while left:
            asked = {sent.message.metadata.message_id: node for node, sent in self._sent.items()}
            again: dict[int, Sent] = {}  # a node that asks twice at once asks once
            for reply in left:
                sent = self._request(reply, asked)
                if sent is None or (why := self._unread(reply, sent)) is None:
                    answered.append(reply)
                elif sent.node not in again:  # once, however often it asks
                    when = self._when(sent)
                    LOG.warning("\t> node %d gets the model again %s(%s): %s", sent.node, when, sent.kind, why)
                    if not when:
                        again[sent.node] = sent
                        self.traffic.again[sent.node] = why
            left = self._resend([*again.values()])
        self._grid, self._snapshot = None, None  # a strategy that is copied does not copy them
        return answered if broken is None else breaking_off(answered, broken)

    def account(self, report: RoundReport, **fields: Any) -> RoundReport:
        """Return the report of a training round with what it sent, and other fields."""
        told = self.traffic
        forms = {str(form): count for form, count in sorted(told.forms.items())}
        return replace(report, bytes_sent=told.sent, bytes_dense=told.dense, forms=forms, resent=dict(told.again), **fields)

    def evaluation_metrics(self) -> MetricRecord:
        """Return what a round of evaluation sent, as metrics."""
        return MetricRecord({"robustcomp.evaluation-bytes-sent": self.traffic.sent})

    # -- what a node gets -------------------------------------------------------------------------------------------------

    def _form(self, node: int, kind: str, base: Held) -> Form:
        if self._nodes.is_blind(node, kind):
            return Form.DENSE
        chain = None if self._ring is None else self._ring.chain(base)
        return cheapest(
            {
                Form.REPLICA: None if chain is None else array_bytes(chain),
                Form.QUANTISED: self._shot.size,
                Form.DENSE: self._shot.dense,
            }
        )

    def _content(self, content: RecordDict, base: Held | None) -> RecordDict:
        """Return a message's content with the changes since a version, or without one with the quantised model."""
        chain = None if self._ring is None or base is None else self._ring.chain(base)
        if self._ring is None or base is None or chain is None:
            return with_model(content, Header(form=Form.QUANTISED, key=self.key), self._shot.record)
        return with_model(content, Header.between(self.key, base, self._ring.held), chain)

    def _dense(self, content: RecordDict) -> RecordDict:
        """Return a message's content with the dense replica, to be kept; with the dense model where there is no replica."""
        if self._ring is None:
            return content
        names = {**self._ring.held.model_dump(), "dtypes": narrow_dtypes(self._ring.replica)}
        header = Header(form=Form.DENSE, key=self.key, **names)
        self._snapshot = self._snapshot or snapshot_record(self._ring.replica)  # one for all nodes of a round
        return with_model(content, header, self._snapshot)

    # -- what a node says -------------------------------------------------------------------------------------------------

    def _request(self, reply: Message, asked: Mapping[str, int]) -> Sent | None:
        """Return what a reply is to; None where it is to nothing that was packed here."""
        try:
            return self._sent.get(sender(reply, asked))
        except Exception:  # noqa: BLE001 (foreign: screening says what is wrong with it)
            return None

    def _unread(self, reply: Message, sent: Sent) -> str | None:
        """Return why a node could not read what it got, in words; None where it could. Take what it says out of the reply."""
        node, kind = sent.node, sent.kind
        try:
            if reply.has_error():
                if not sent.packed or self._nodes.reads(node, kind) or reply.error.code in UNAVAILABLE:
                    return None
                self._nodes.blind(node, kind)
                return "its app does not unpack the model: list the mod for this kind of message, too"
            content = reply.content
            if RESEND in content:
                asks = Resend.read(content[RESEND])
                self._nodes.says(node, kind, 0 if self._ring is None else self._ring.known(asks))
                return printable(asks.why, 200)
            if HELD in content:
                held = Held.read(content.pop(HELD))
                self._nodes.says(node, kind, 0 if self._ring is None else self._ring.known(held))
        except Exception:  # noqa: BLE001 (as above)
            LOG.debug("a reply of node %d says nothing of the model that can be read", node)
        return None

    # -- what is sent again -----------------------------------------------------------------------------------------------

    def _when(self, sent: Sent) -> str:
        """Return when a node is sent the model again, in words; none for now."""
        in_time = self._deadline is None or time.monotonic() < self._deadline
        now = self.downlink is not None and sent.packed and sent.again < self.downlink.resends and in_time
        return "" if now else "when it is next asked "

    def _resend(self, again: Sequence[Sent]) -> list[Message]:
        """Send to nodes what they can read; return their replies, as those to the first message."""
        if not again or (grid := self._grid) is None:
            return []
        left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        messages = [sent_again(sent.message, self._second(sent)) for sent in again]
        self.traffic.count([message.content for message in messages], ())
        replies, broken = as_far_as_they_come(lambda: grid.send_and_receive(messages, timeout=left))
        if broken is not None:  # the nodes that answered the first time are not lost for it
            LOG.warning("\t> the model was not sent again to the end: %s", printable(str(broken), 200))
        first: dict[str, Metadata] = {}
        for sent, message in zip(again, messages, strict=True):
            first[message.metadata.message_id] = sent.message.metadata
            sent.message = addressed(message.content, sent.message.metadata)
            sent.again += 1
        return [answering(reply, first) for reply in replies]

    def _second(self, sent: Sent) -> RecordDict:
        """Return the content that a node gets that could not read the first one."""
        if self._nodes.is_blind(sent.node, sent.kind):
            return sent.plain
        base = NOTHING if self._ring is None else self._ring.at(self._nodes.version(sent.node))
        chain = None if self._ring is None or base == sent.base else self._ring.chain(base)
        if chain is None or array_bytes(chain) >= self._shot.dense:
            return self._dense(sent.plain)
        sent.base = base
        return self._content(sent.plain, base)

    # -- checkpoints ------------------------------------------------------------------------------------------------------

    def state(self) -> RecordDict:
        """Return the records that a checkpoint keeps; none without a downlink."""
        ring = {} if self._ring is None else self._ring.state()
        return RecordDict({} if self.downlink is None else {**ring, **self._nodes.state()})

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError` for what it cannot have left behind."""
        if self.downlink is not None:
            nodes = Nodes.restored(state)
            if self._ring is not None:
                self._ring.restore(state)
            self._nodes, self._restored = nodes, True
