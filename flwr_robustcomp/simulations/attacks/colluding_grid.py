"""A Grid between server and nodes that reads the honest replies of a round before it writes the Byzantine ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from flwr_robustcomp import wire
from flwr_robustcomp.checkpoints.checkpointed import KeepsNodeStates
from flwr_robustcomp.clients.node import is_training, round_of
from flwr_robustcomp.clients.update import Reply, check_reply
from flwr_robustcomp.compressors import NORM_ORDERS
from flwr_robustcomp.downlink.records import HEADER, RESEND
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG, Run, wanted_ids
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, shared_layout
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.attacks.accomplice import MARK
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.known_round import KnownRound
from flwr_robustcomp.simulations.attacks.sent import Form, Sent, read_sent

__all__ = ["Adversary", "ColludingGrid"]

Adversary = Literal["restricted", "arbitrary"]
"""The paper's section 4, an honest compressor, or section 5, where the adversary has the last word."""


@dataclass
class _Push:
    """Messages that were sent together, of which some replies are still to come."""

    messages: list[Message]
    waiting: set[str]
    replies: list[Message] = field(default_factory=list)


class ColludingGrid(Grid):
    """Any Grid, with an omniscient adversary on the wire; works against every Strategy.

    Parameters
    ----------
    grid : Grid
        One of ours, or Flower's own.
    attack : Collusion
        What the Byzantine nodes send. Which nodes those are their replies say: `Accomplice` marks them.
    adversary : {"restricted", "arbitrary"}
        Whether a reported norm is that of the compressor's input, or the smallest that the server believes.
    trim : int, optional
        How many replies the server trims by norm, for attacks that care.
    norm_order : float
        By which norm of Q(x).
    reply : {"weights", "update"}
        What dense replies hold, as for `CompressionMod`.
    uncompressed : sequence of str
        As for `CompressionMod`.
    seed : int
        The run's.
    model_of : callable, optional
        A message to the dense model that its node trains from; None where nobody knows. By default the message's only
        ArrayRecord, unless it is packed: its replies then stay as they are.

    Notes
    -----
    The adversary sees what the server sees: the decompressed Q(x_i) of the honest, and w_t. In both forms the crafted vector
    goes through the compressor afresh, without residual, since the decoder takes nothing but members of its image. For
    identity, sign, l1-sign and top-k, Q(v) is a nearest such member to v, so nothing is lost by it.

    A reply is overwritten in place of the honest one; error replies stay, replies that never come are not made up, and the
    honest ones pass untouched. `push_messages` and `pull_messages` hold marked replies until every message of their push is
    answered. Nodes that get the model again in a round are overwritten as if they had replied with the others.
    """

    def __init__(
        self,
        grid: Grid,
        attack: Collusion,
        *,
        adversary: Adversary = "restricted",
        trim: int | None = None,
        norm_order: float = 2,
        reply: Reply = "weights",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        seed: int = 0,
        model_of: Callable[[Message], ArrayRecord | None] | None = None,
    ) -> None:
        require(isinstance(attack, Collusion), "attack", attack, "a Collusion instance")
        require(adversary in get_args(Adversary), "adversary", adversary, f"one of {', '.join(get_args(Adversary))}")
        require(norm_order in NORM_ORDERS, "norm_order", norm_order, "one of 1, 2, inf")
        check_reply(reply)
        self._grid = grid
        self._attack = attack
        self._adversary = adversary
        self._trim = trim
        self._norm_order = norm_order
        self._reply: Reply = reply
        self._uncompressed = tuple(uncompressed)
        self._seed = seed
        self._model_of = model_of or self._plain_model
        self._warned = False
        self._round: KnownRound | None = None
        self._state: Any = attack.init()
        self._open: dict[str, _Push] = {}
        self._ready: dict[str, Message] = {}

    # -- the Grid, as it was ----------------------------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Return the run."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make an instruction message."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids."""
        return self._grid.get_node_ids()

    def node_states(self) -> dict[int, RecordDict]:
        """Return `Context.state` of every node, for a checkpoint; nothing where the grid inside does not keep them."""
        return self._grid.node_states() if isinstance(self._grid, KeepsNodeStates) else {}

    def restore_node_states(self, states: Mapping[int, RecordDict]) -> None:
        """Put back what `node_states` returned, where the grid inside keeps it."""
        if isinstance(self._grid, KeepsNodeStates):
            self._grid.restore_node_states(states)

    # -- replies ----------------------------------------------------------------------------------------------------------

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; return their ids."""
        sent = list(messages)
        ids = list(self._grid.push_messages(sent))
        push = _Push(sent, set(ids))
        self._open.update(dict.fromkeys(ids, push))
        return ids

    def pull_messages(  # type: ignore[override]  # the form of Flower 1.43; calls in the older form fit it too
        self, reply_to_message_ids: Iterable[str] | None = None, *, message_ids: Iterable[str] | None = None
    ) -> Iterable[Message]:
        """Return those replies that have come, each once; the marked ones when all of their push have.

        The parameters are those of `LocalGrid.pull_messages`.
        """
        asked = wanted_ids(reply_to_message_ids, message_ids)
        wanted = [*self._ready, *self._open] if asked is None else asked
        for reply in self._grid.pull_messages({*wanted, *self._open}):
            answered = reply.metadata.reply_to_message_id
            push = self._open.pop(answered, None)
            if push is None:
                self._ready[answered] = reply
                continue
            push.waiting.discard(answered)
            push.replies.append(reply)
            if not _is_marked(reply):
                self._ready[answered] = reply
            if not push.waiting:
                marked = [one for one in push.replies if _is_marked(one)]
                self._collude(push.messages, push.replies)
                self._ready.update({one.metadata.reply_to_message_id: one for one in marked})
        return [self._ready.pop(message_id) for message_id in wanted if message_id in self._ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send, wait until all replies or the timeout have come, overwrite the marked ones."""
        sent = list(messages)
        replies = list(self._grid.send_and_receive(sent, timeout=timeout))
        self._collude(sent, replies)
        return replies

    def _collude(self, messages: Sequence[Message], replies: Sequence[Message]) -> None:
        """Overwrite the marked replies among these, in place."""
        liars = {reply.metadata.src_node_id: _take_mark(reply) for reply in replies if _is_marked(reply)}
        if not messages or not is_training(messages[0]):
            return
        known = self._known(round_of(messages[0]), frozenset(message.metadata.dst_node_id for message in messages))
        known.liars |= liars
        complete = all(not reply.has_error() and RESEND not in reply.content for reply in replies)
        self._round = None if complete else known  # nobody gets the model again
        if complete and not liars:
            return
        forms = self._forms(messages)
        fresh = set()
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error() or RESEND in reply.content or node not in forms:
                continue
            try:
                known.read[node] = read_sent(reply, forms[node]), forms[node]
                fresh.add(node)
            except ValueError as error:  # the server's to reject
                LOG.warning("The adversary cannot read the reply of node %d: %s", node, error)
        if fresh & liars.keys() and known.of(lying=False):
            self._write(known, fresh)

    def _known(self, round_: int, nodes: frozenset[int]) -> KnownRound:
        """Return what is known of a round: of the last messages' where these are sent again to some that gave no update."""
        last = self._round
        if last is not None and last.number == round_ and nodes <= last.nodes - last.read.keys():
            return last
        return KnownRound(round_, nodes, self._state)

    def _forms(self, messages: Sequence[Message]) -> dict[int, Form]:
        """Return how each node's reply carries its update, for those whose model is known."""
        made: dict[int, Form] = {}
        forms: dict[int, Form] = {}
        models = [(message.metadata.dst_node_id, self._model_of(message)) for message in messages]
        for node, record in models:
            if record is None:
                continue
            if id(record) not in made:
                model = wire.shared_tensors(record)
                layout = shared_layout(model, self._uncompressed)
                made[id(record)] = Form(layout, model, self._reply, self._norm_order, self._adversary == "arbitrary")
            forms[node] = made[id(record)]
        return forms

    def _plain_model(self, message: Message) -> ArrayRecord | None:
        if HEADER in message.content:
            if not self._warned:
                LOG.warning("The adversary cannot read a packed model, and leaves the replies to it as they are: give model_of")
            self._warned = True
            return None
        models = [record for record in message.content.values() if isinstance(record, ArrayRecord)]
        return models[0] if len(models) == 1 else None

    def _write(self, known: KnownRound, fresh: set[int]) -> None:
        """Overwrite the replies of those that lie and have just replied."""
        honest = [one for one, _ in known.of(lying=False)]
        byzantine = [one for one, _ in known.of(lying=True)]
        form = known.of(lying=True)[0][1]  # whose model is of no account for norms

        def rng(one: Sent) -> Any:  # the same numbers each time, so that what was measured is what is sent
            partition = known.liars[one.message.metadata.src_node_id]
            return generator(self._seed, "collusion compress", round_=known.number, partition=partition)

        # A compressor that draws nothing gives all of them the same norm.
        draws = byzantine if any(compressor.randomized for compressor, _ in byzantine[0].packed) else byzantine[:1]

        def norm(x: torch.Tensor) -> float:
            return max(form.sorted_by(x, one, one.compress(x, rng(one))) for one in draws)

        def sent(rows: torch.Tensor) -> torch.Tensor:
            return torch.stack([one.decoded(row, rng(one)) for one, row in zip(byzantine, rows, strict=True)])  # (b, d)

        seen = Seen(
            torch.stack([one.x for one in honest]),  # (h, d)
            tuple(one.message.metadata.src_node_id for one in honest),
            tuple(one.norm for one in honest),
            len(byzantine),
            norm,
            self._trim,
            generator(self._seed, f"collusion {self._attack.name}", round_=known.number),
            torch.stack([one.x for one in byzantine]),  # (b, d)
            sent,
        )
        try:
            x, self._state = self._attack.craft(seen, known.state)
            for (one, its), row in zip(known.of(lying=True), x.expand(len(byzantine), -1), strict=True):
                if one.message.metadata.src_node_id in fresh:
                    one.overwrite(row, its, rng(one))
        except ValueError as error:  # it overflows the dtype: what honest training gave is sent
            LOG.warning("Round %d: the crafted update cannot be sent: %s", known.number, error)


def _is_marked(reply: Message) -> bool:
    return not reply.has_error() and MARK in reply.content


def _take_mark(reply: Message) -> int:
    """Remove the mark; return the node's partition."""
    record = reply.content.pop(MARK)
    return int(str(record["partition"])) if isinstance(record, ConfigRecord) else 0
