"""The messages of a round on their way out, and the replies on their way in: packed, counted, and sent again where need be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from flwr_robustcomp.downlink import Downlink, Form, cheapest
from flwr_robustcomp.downlink.records import HELD, NOTHING, RESEND, Held, Resend
from flwr_robustcomp.errors import printable, require
from flwr_robustcomp.flower import LOG, Metadata, addressed, answering, sent_again
from flwr_robustcomp.strategies.downlink.broken import as_far_as_they_come, breaking_off
from flwr_robustcomp.strategies.downlink.contents import Contents
from flwr_robustcomp.strategies.downlink.debts import Debts
from flwr_robustcomp.strategies.downlink.nodes import Nodes
from flwr_robustcomp.strategies.downlink.sent import Sent, carries
from flwr_robustcomp.strategies.downlink.traffic import Traffic
from flwr_robustcomp.strategies.nodes.history import RunHistory
from flwr_robustcomp.strategies.replies.common import sender
from flwr_robustcomp.strategies.report import UNAVAILABLE

__all__ = ["Outgoing"]


_PERHAPS_BLIND = (
    "its first answer to a packed one is an error; if its app does not unpack, list the mod for these messages, too"
)


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
        The strategy's: it knows the lengths of the model's last steps.

    Attributes
    ----------
    timeout : float or None
        Seconds that a round may take, as Flower's ``start`` was told: what is sent again has what is left of it.
    traffic : Traffic
        Of the last messages that were packed.
    contents : Contents
        The model of the last messages, in its forms.

    Notes
    -----
    *Which form a node gets* is `cheapest` of what it can read: the changes since the version that it last said it holds, the
    quantised model, the dense one. At first contact a node holds version 0, and the server does not know whether the node's
    app has a mod that unpacks. Where such a node answers with an error, it gets the dense model in the same round, and from
    then on; a line of the log says so. Where it fails with that, too, its fault was another, and the next model is packed.

    *A node that cannot read* what it got says what it holds. It is sent the model again in the same round, ``resends`` times
    at most, within the timeout: first what leads on from the version that it names, else a dense replica. It counts as a node
    that has not replied until it does, and never as a faulty one.

    *A node that lies* about its version gets changes that it cannot use, and nothing else changes: the server keeps a few
    integers a node, and sends it at most ``1 + resends`` models in a round.
    """

    def __init__(self, downlink: Downlink | None, key: str, history: RunHistory) -> None:
        require(downlink is None or isinstance(downlink, Downlink), "downlink", downlink, "a Downlink, or None")
        self.downlink = downlink
        self.key = key
        self.history = history
        self.timeout: float | None = 3600.0  # as Flower's
        self.traffic = Traffic()
        self.contents = Contents(downlink, key)
        self._restored = False
        self._nodes, self._debts = Nodes(), Debts()
        self._grid: Grid | None = None
        self._sent: dict[int, Sent] = {}
        self._behind: dict[int, int] = {}
        self._deadline: float | None = None

    def begin(self, timeout: float | None) -> None:
        """Begin a run: forget what an earlier one left, unless it goes on from a checkpoint."""
        self.timeout = timeout
        if not self._restored:
            self.contents.forget()
            self._nodes, self._debts = Nodes(), Debts()
        self._restored = False

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
        if self.downlink is None or not isinstance(grid, Grid) or not plain:  # the old API's is none
            self.traffic.count([message.content for message in plain], [message.content for message in plain])
            return plain
        self._grid = grid
        if self.contents.take(arrays, moved=self._nodes.moves(arrays), step=self.history.longest_step):
            self._nodes.lose_versions()
        packed: list[Message] = []
        contents: dict[tuple[int, Form, Held | None], RecordDict] = {}  # nodes that get the same share it
        for message in plain:
            node, content = message.metadata.dst_node_id, message.content
            held, sent = self._held(node), Sent(message, content, None)
            once = node not in self._sent  # of more messages to a node, only the first is packed
            reads = once and carries(content, self.key, arrays) and not self._nodes.is_blind(node, sent.kind)
            form = self._form(node, held) if reads else Form.DENSE
            self._tell_missed(node, form)
            sent.base = held if form is Form.REPLICA else None
            which = (id(content), form, sent.base)
            if reads and which not in contents:
                contents[which] = self.contents.of(content, form, sent.base)
            sent.message = addressed(contents[which], message.metadata) if reads else message
            self._sent.setdefault(node, sent)
            packed.append(sent.message)
            self.traffic.forms[form] += 1
        self.traffic.count([message.content for message in packed], [message.content for message in plain])
        self.traffic.say_missed()
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
            asking: dict[int, tuple[Sent, str]] = {}  # a node that asks twice at once asks once
            for reply in left:
                sent = self._request(reply, asked)
                if sent is None or (why := self._unread(reply, sent)) is None:
                    answered.append(reply)
                else:
                    asking[sent.node] = sent, why
            left = self._resend(self._now(asking.values()))
        self._grid = None  # a strategy that is copied does not copy it
        self.contents.lose_snapshot()
        return answered if broken is None else breaking_off(answered, broken)

    # -- what a node gets -------------------------------------------------------------------------------------------------

    def _form(self, node: int, base: Held) -> Form:
        """Return the cheapest form; the dense replica, though, once a node has paid for it by whole models (`Debts`)."""
        sizes = self.contents.sizes(base)
        form, ring = cheapest(sizes), self.contents.ring
        if ring is None:
            return form
        before = ring.at(self._debts.asked(node, ring.replica.version))
        if form is Form.REPLICA:
            self._debts.holds(node)
            return form
        paid = sizes[form] or 0
        changes = None if before == NOTHING else self.contents.sizes(before)[Form.REPLICA]
        keeps = self._debts.owe(node, 0 if changes is None else paid - changes, ring.replica.size - paid)
        return Form.DENSE if keeps else form

    def _held(self, node: int) -> Held:
        """Return the version that a node holds, as far as that is known and of use."""
        ring = self.contents.ring
        return NOTHING if ring is None else ring.at(self._nodes.version(node))

    def _tell_missed(self, node: int, form: Form) -> None:
        """Take down how many changes a node missed that held the replica before the last one."""
        known = self._nodes.version(node)
        ring = self.contents.ring
        missed = 0 if ring is None or not known else ring.replica.version - known
        if missed > 1 and self._behind.get(node) != known:  # a node that holds on to an old version is named once
            self.traffic.missed[node] = (missed, form)
            self._behind[node] = known

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
                return self._erred(sent, reply.error.code)
            content = reply.content
            if RESEND in content:
                asks = Resend.read(content[RESEND])
                self._nodes.says(node, kind, self._known(asks))
                return printable(asks.why, 200)
            if HELD in content:
                said = Held.read(content.pop(HELD))
                self._nodes.says(node, kind, self._known(said))
                if (ring := self.contents.ring) is not None and not ring.made(said):
                    LOG.warning("\t> node %d says that it holds %s, which was never sent: it gets the whole model", node, said)
        except Exception:  # noqa: BLE001 (as above)
            LOG.debug("a reply of node %d says nothing of the model that can be read", node)
        return None

    def _erred(self, sent: Sent, code: int) -> str | None:
        if code in UNAVAILABLE:  # a node that is gone says nothing of its app
            return None
        if sent.packed and not self._nodes.reads(sent.node, sent.kind):
            self._nodes.blind(sent.node, sent.kind)
            return _PERHAPS_BLIND
        if sent.again and self._nodes.is_blind(sent.node, sent.kind):
            self._nodes.errs_anyway(sent.node, sent.kind)
        return None

    def _known(self, said: Held) -> int:
        return 0 if self.contents.ring is None else self.contents.ring.known(said)

    # -- what is sent again -----------------------------------------------------------------------------------------------

    def _now(self, asking: Iterable[tuple[Sent, str]]) -> list[Sent]:
        """Return the messages that are sent again now, and say so; the others wait until their nodes are next asked."""
        in_time = self._deadline is None or time.monotonic() < self._deadline
        most = self.downlink.resends if self.downlink is not None and in_time else 0
        now: list[Sent] = []
        for sent, why in asking:
            at_once = sent.packed and sent.again < most
            self.traffic.say_again(sent.node, sent.kind, why, at_once=at_once)
            now += [sent] if at_once else []
        return now

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
        base = self._held(sent.node)
        sizes = self.contents.sizes(base)
        if base == sent.base or cheapest({**sizes, Form.QUANTISED: None}) is Form.DENSE:
            return self.contents.of(sent.plain, Form.DENSE, None)
        sent.base = base
        return self.contents.of(sent.plain, Form.REPLICA, base)

    # -- checkpoints ------------------------------------------------------------------------------------------------------

    def state(self) -> RecordDict:
        """Return the records that a checkpoint keeps; none without a downlink."""
        if self.downlink is None:
            return RecordDict()
        ring = RecordDict() if self.contents.ring is None else self.contents.ring.state()
        return RecordDict({**ring, **self._nodes.state(), **self._debts.state()})

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned; `ConfigurationError` for what it cannot have left behind."""
        if self.downlink is None:
            return
        nodes, debts = Nodes.restored(state), Debts.restored(state)
        if self.contents.ring is not None:
            self.contents.ring.restore(state)
        self._nodes, self._debts, self._restored = nodes, debts, True
