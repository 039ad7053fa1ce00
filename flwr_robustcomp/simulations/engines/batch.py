"""All nodes of a shard in one call: the numbers of the one-by-one path, without its overhead for each message.

A small problem's gradient takes microseconds, and passing one message through a ClientApp and its mods ten times as long; a
network's gradients are cheaper many at a time. Nodes that live in one process and received the same model share that work:
`train_batch` computes the same replies with the compressor applied to the rows of one matrix, byte for byte where the
problem computes gradients one by one, to rounding where it stacks them (tests hold both).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients import ClientMomentum, CompressionMod, LabelAttack, Poison, UpdateAttack
from flwr_robustcomp.clients.client_momentum import MOMENTUM
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.clients.incoming import ARRAYS, Received, Unreadable, receive
from flwr_robustcomp.clients.node import is_training, round_of
from flwr_robustcomp.compressors import working_dtype
from flwr_robustcomp.downlink.records import HEADER, HELD
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import quick_reply
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.simulations.attacks.accomplice import Accomplice, mark
from flwr_robustcomp.simulations.problems import BatchedProblem, Relabel, true_labels
from flwr_robustcomp.simulations.scenario.setup import Setup, setup_of
from flwr_robustcomp.spans import DELTA_METRIC, draws

__all__ = ["Batch", "BatchClientApp", "train_batch"]

_CHUNK_ENTRIES = 1 << 20
"""Entries of the gradients held at a time, 4 MB in single precision, so that what is done to them finds them in the cache.

Four times as many was slower for large networks, a quarter as many for small ones. Where a gradient has more than half as many
entries, as that of the paper's network has, nodes go one by one.
"""

Batch = Callable[[Sequence[Message], Sequence[Context]], list[Message] | None]


class BatchClientApp(ClientApp):
    """A ClientApp that our grids may also ask for the replies of many nodes at once.

    Parameters
    ----------
    batch : callable
        (messages, contexts) -> replies in the same order, or None to be asked one by one. The messages share one content.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch


def train_batch(messages: Sequence[Message], contexts: Sequence[Context]) -> list[Message] | None:
    """Return the training replies of many nodes; None where only the one-by-one path will do.

    That is: evaluation, replies of weights, an adversary behind the compressor, arrays that travel uncompressed, an update that
    is not finite, a packed model that one of the nodes cannot read.
    """
    setup = setup_of(contexts[0].run_config)
    mods = _mods(setup)
    content = messages[0].content
    arrived = _received(content, contexts)
    if arrived is None:
        return None
    record = content.get("arrays") if arrived[0] is None else arrived[0].model
    if mods is None or setup.problem.reply != "update" or not isinstance(record, ArrayRecord) or not is_training(messages[0]):
        return None
    model = wire.shared_tensors(record)
    layout = mods.compression.packing.layout(model)
    if layout.uncompressed:
        return None
    replies: list[Message] = []
    states: list[_States] = []
    size = min(len(messages), max(1, _CHUNK_ENTRIES // layout.dim))
    buffer = torch.empty(size, layout.dim, dtype=working_dtype(layout.dtype))  # one for all chunks: it stays in the cache
    for start in range(0, len(messages), size):
        now = slice(start, start + size)
        rows = buffer[: len(messages[now])]
        try:
            answered, kept_by_each = _answer(setup, mods, model, layout, messages[now], contexts[now], rows, arrived[now])
        except ConfigurationError:  # the compressor's, of an update that is not finite
            return None
        replies += answered
        states += kept_by_each
    # Only now: a batch that raises or gives up is asked again one by one, and no update may count twice (docs/adr/0004).
    for context, kept in zip(contexts, states, strict=True):
        context.state.update(kept)
    return replies


_States = dict[str, ArrayRecord | ConfigRecord]
"""What a node keeps for the next round."""


def _received(content: RecordDict, contexts: Sequence[Context]) -> list[Received | None] | None:
    """Return what each node gets from a packed model, None each where it is not packed; None where one of them cannot read it.

    What is received follows from the message and from what the node keeps of the replica. Nodes that keep the same records,
    which they have had from here, receive the same.
    """
    if HEADER not in content:
        return [None] * len(contexts)
    known: dict[tuple[int, ...], Received | None] = {}
    arrived: list[Received | None] = []
    for context in contexts:
        keeps = tuple(id(context.state.get(name)) for name in (ARRAYS, HELD))
        if keeps not in known:
            try:
                known[keeps] = receive(content, context.state)
            except Unreadable:  # the node has to say so, and is asked by itself
                return None
        arrived.append(known[keeps])
    models = [one.model for one in arrived if one is not None and one.key == "arrays"]
    alike = len(models) == len(contexts) and all(model is models[0] for model in models)
    return arrived if alike else None


@dataclass(frozen=True)
class _Mods:
    """The scenario's mods, by what they do."""

    compression: CompressionMod
    attack: UpdateAttack | LabelAttack | Accomplice | None
    momentum: ClientMomentum | None


def _answer(
    setup: Setup,
    mods: _Mods,
    model: dict[str, Tensor],
    layout: Layout,
    messages: Sequence[Message],
    contexts: Sequence[Context],
    rows: Tensor,
    arrived: Sequence[Received | None],
) -> tuple[list[Message], list[_States]]:
    """Return the replies of a chunk of k nodes and their new states; as every compressor, raise if an update is not finite.

    ``rows``, shape (k, d), is where the updates are formed; nothing of it is kept. ``arrived`` says what each node received.
    """
    seed, server_round = setup.scenario.seed, round_of(messages[0])
    compression, attack = mods.compression, mods.attack
    partitions = [int(context.node_config["partition-id"]) for context in contexts]
    states: list[_States] = [{} for _ in contexts]
    _gradients(setup, mods, model, layout, partitions, server_round, rows)
    if mods.momentum is not None:
        for kept, momentum in zip(states, mods.momentum.mix(rows, [context.state for context in contexts]), strict=True):
            kept[MOMENTUM.record] = momentum
    if isinstance(attack, UpdateAttack):
        attack.falsify(rows, partitions, server_round, seed)
    spans = compression.packing.spans(layout, server_round)
    rngs = [compression.generator(seed, server_round, one) if draws(spans) else None for one in partitions]
    before: list[Tensor | None] = [None] * len(contexts)
    if compression.error_feedback:
        before = [RESIDUAL.load(context.state, layout.dim, rows.dtype) for context in contexts]
    packed = compression.pack(rows, before, spans, rngs)
    if packed.residuals is not None:
        for kept, residual in zip(states, packed.residuals, strict=True):
            kept[RESIDUAL.record] = RESIDUAL.kept(residual)

    now, replies = time.time(), []
    for i, (message, partition) in enumerate(zip(messages, partitions, strict=True)):
        records: dict[str, ConfigRecord] = {}
        if (order := compression.report_norm) is not None:
            records[wire.NORM_RECORD] = ConfigRecord({wire.norm_key(order): packed.norms[i]})
        if (received := arrived[i]) is not None:
            records[HELD] = received.held.record()
            states[i].update(received.kept)  # last, as the mod does
        arrays = {
            span.name or wire.MODEL_ARRAY: wire.packed_fields(payload, span.compressor)
            for span, payload in zip(spans, packed.payloads[i], strict=True)
        }
        metrics = _metrics(setup.problem.num_examples(partition))
        told = {DELTA_METRIC: packed.deltas[i]} if packed.deltas and math.isfinite(packed.deltas[i]) else None
        reply = quick_reply(message, arrays, metrics, records, now, more=told)
        if isinstance(attack, Accomplice) and attack.lies(partition, server_round, seed):
            mark(reply, partition)
        replies.append(reply)
    return replies, states


def _gradients(
    setup: Setup,
    mods: _Mods,
    model: dict[str, Tensor],
    layout: Layout,
    partitions: Sequence[int],
    server_round: int,
    rows: Tensor,
) -> None:
    """Write the gradients of k nodes into rows, shape (k, d)."""
    problem = setup.problem
    relabels = [_relabel(mods.attack, setup.scenario.seed, partition, server_round) for partition in partitions]
    if isinstance(problem, BatchedProblem) and len(partitions) > 1:
        stacked = problem.gradients(partitions, model, relabels)
        for slot in layout.compressed:
            rows[:, slot.start : slot.stop] = stacked[slot.name].reshape(len(partitions), -1)
        return
    for row, partition, relabel in zip(rows, partitions, relabels, strict=True):
        layout.flatten(problem.gradient(partition, model, relabel), out=row)


@functools.lru_cache(maxsize=64)
def _metrics(num_examples: int) -> MetricRecord:
    return MetricRecord({"num-examples": num_examples})


def _mods(setup: Setup) -> _Mods | None:
    """Return the scenario's mods if the compression has the last word, as it has in the paper's section 4."""
    last = setup.mods[-1]
    momentum = last if isinstance(last, ClientMomentum) else None
    match [mod for mod in setup.mods if mod is not momentum]:
        case [CompressionMod() as compression]:
            return _Mods(compression, None, momentum)
        case [CompressionMod() as compression, (UpdateAttack() | LabelAttack()) as attack]:
            return _Mods(compression, attack, momentum)
        case [Accomplice() as attack, CompressionMod() as compression]:
            return _Mods(compression, attack, momentum)
        case _:
            return None


def _relabel(attack: object, seed: int, partition: int, round_: int) -> Relabel:
    if isinstance(attack, LabelAttack) and attack.lies(partition, round_, seed):
        return Poison(attack, seed, partition)
    return true_labels
