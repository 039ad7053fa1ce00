"""A client's reply as the adversary reads it, and the same reply with another update in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.node import only_arrays
from flwr_robustcomp.clients.update import Reply, dense_update, packed_names, packed_update, with_update
from flwr_robustcomp.compressors import Compressor, Payload, vector_norm
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies.sort_norm import combine_norms, sort_norm

__all__ = ["Form", "Sent", "read_sent"]


@dataclass(frozen=True)
class Form:
    """How a reply carries its update.

    Attributes
    ----------
    layout : Layout
        Of the model.
    model : dict of str to Tensor
        w_t.
    reply : {"weights", "update"}
        What a dense reply holds.
    norm_order : float
        The order of the norm of Q(x) that the server sorts by, where none is reported.
    liar : bool
        Whether the adversary may report any norm that the server would believe (the arbitrary adversary), or must report that
        of the compressor's input (the restricted one).
    """

    layout: Layout
    model: dict[str, Tensor]
    reply: Reply
    norm_order: float
    liar: bool

    def sorted_by(self, x: Tensor, sent: Sent, payloads: Sequence[Payload]) -> float:
        """Return the norm by which the server sorts x, once compressed to these payloads."""
        if not payloads:
            return vector_norm(x, self.norm_order)
        if sent.reported is None:
            return sort_norm(sent.fresh(payloads), self.norm_order)
        return sort_norm(sent.fresh(payloads), sent.reported, self.told(x, sent, payloads))

    def told(self, x: Tensor, sent: Sent, payloads: Sequence[Payload]) -> float:
        """Return the norm that the adversary reports of x, once compressed to these payloads.

        Not the one that the server sorts by: where Q(x) is longer than any x that it could come from, as unbiased forms are,
        a report of ||Q(x)|| would be refused.
        """
        order = float(sent.reported or self.norm_order)
        if not self.liar:
            return vector_norm(x, order)
        return combine_norms([c.norm_bounds(p, order)[0] for c, p in sent.fresh(payloads)], order)


@dataclass(frozen=True)
class Sent:
    """One reply.

    Attributes
    ----------
    message : Message
        The reply itself.
    x : Tensor, shape (d,), working precision
        Its update, decompressed.
    norm : float
        By which the server sorts it.
    reported : float or None
        The order of the norm that it reports, if it does.
    names : tuple of str
        Its packed Arrays; empty where the reply is dense.
    packed : tuple of (Compressor, Payload)
        What they hold.
    """

    message: Message
    x: Tensor
    norm: float
    reported: float | None
    names: tuple[str, ...]
    packed: tuple[tuple[Compressor, Payload], ...]

    def compress(self, x: Tensor, rng: np.random.Generator) -> list[Payload]:
        """Return x, shape (d,), as payloads of this reply's own kind; none where the reply is dense."""
        if not self.packed:
            return []
        pieces = torch.split(x, [payload.size for _, payload in self.packed])
        return [
            compressor.compress(piece.to(old.dtype).reshape(old.shape), rng)
            for (compressor, old), piece in zip(self.packed, pieces, strict=True)
        ]

    def fresh(self, payloads: Sequence[Payload]) -> list[tuple[Compressor, Payload]]:
        """Return other payloads of this reply's own kind, each with its compressor."""
        return [(compressor, payload) for (compressor, _), payload in zip(self.packed, payloads, strict=True)]

    def decoded(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return x, shape (d,), as the server decodes it once this reply has carried it; x itself where the reply is dense."""
        if not self.packed:
            return x
        pairs = self.fresh(self.compress(x, rng))
        return torch.cat([compressor.decompress(payload).reshape(-1).to(x.dtype) for compressor, payload in pairs])

    def overwrite(self, x: Tensor, form: Form, rng: np.random.Generator) -> None:
        """Put x in the place of the update; metrics, and arrays that travel uncompressed, stay those of honest training.

        Raises
        ------
        ValueError
            If the compressor refuses x; the reply is then as it was.
        """
        key, arrays = only_arrays(self.message.content, "the reply")
        if not self.packed:
            _, aside = dense_update(form.layout, form.model, arrays, form.reply)
            self.message.content[key] = with_update(form.layout, form.model, x, aside, form.reply)
            return
        payloads = self.compress(x, rng)
        fresh = {
            name: wire.pack(payload, compressor)
            for name, (compressor, _), payload in zip(self.names, self.packed, payloads, strict=True)
        }
        self.message.content[key] = ArrayRecord({name: fresh.get(name, array) for name, array in arrays.items()})
        if self.reported is not None:
            norm = form.told(x, self, payloads)
            self.message.content[wire.NORM_RECORD] = ConfigRecord({wire.norm_key(self.reported): norm})


def read_sent(message: Message, form: Form) -> Sent:
    """Read a reply of this run's own nodes.

    Raises
    ------
    ValueError
        If it holds no update of the model.
    """
    _, arrays = only_arrays(message.content, "the reply")
    names = tuple(packed_names(arrays, form.layout))
    if not names:
        x, _ = dense_update(form.layout, form.model, arrays, form.reply)
        return Sent(message, x, vector_norm(x, form.norm_order), None, (), ())
    x, packed = packed_update(arrays, names, form.layout)
    record = message.content.get(wire.NORM_RECORD)
    if isinstance(record, ConfigRecord) and len(record) == 1:
        ((name, value),) = record.items()
        if name.startswith("norm-") and isinstance(value, int | float) and math.isfinite(value):
            order = float(name.removeprefix("norm-"))
            return Sent(message, x, sort_norm(packed, order, float(value)), order, names, tuple(packed))
    return Sent(message, x, sort_norm(packed, form.norm_order), None, names, tuple(packed))
