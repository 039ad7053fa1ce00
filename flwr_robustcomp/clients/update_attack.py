"""Byzantine nodes that change their update: before compression, or, listed first, after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.node import is_training, only_arrays, partition_of, round_of, seed_of
from flwr_robustcomp.clients.update import Reply, check_reply, dense_update, with_update
from flwr_robustcomp.compressors import vector_norm, working_dtype
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Layout, shared_layout
from flwr_robustcomp.randomness import generator

__all__ = ["UpdateAttack"]


class UpdateAttack(ABC):
    """A mod that replaces the update x of Byzantine nodes by `transform` (x).

    Parameters
    ----------
    partitions : collection of int, optional
        The partition ids of the Byzantine nodes; None makes every node that runs this app Byzantine.
    reply : {"weights", "update"}
        What the training function replies with, as for `CompressionMod`.
    uncompressed : sequence of str
        As for `CompressionMod`.
    seed : int, optional
        Of the attack's random numbers; by default the run config's ``seed``, else 0.

    Notes
    -----
    Mod order is the threat model. After the compression mod in the list, ``[compression, attack]``, the attack feeds arbitrary
    values to an honest compressor: the restricted adversary of section 4. Before it, ``[attack, compression]``, the
    attack has the last word on the packed bits: the arbitrary adversary of section 5. There it reads the payload,
    transforms Q(p), and sends the nearest vector that the codec can express, since the server's decoder lets nothing else
    in.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        partitions: Collection[int] | None = None,
        reply: Reply = "weights",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        seed: int | None = None,
    ) -> None:
        check_reply(reply)
        self.partitions = partitions
        self.reply = reply
        self.uncompressed = tuple(uncompressed)
        self.seed = seed

    @abstractmethod
    def transform(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return what the Byzantine node sends in place of x, shape (d,), same dtype; may write to x."""

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let honest nodes pass; transform the update of Byzantine ones, packed or not."""
        partition = partition_of(context)
        if not is_training(message) or (self.partitions is not None and partition not in self.partitions):
            return call_next(message, context)
        _, received = only_arrays(message.content, "the server's message")
        rng = generator(seed_of(context, self.seed), self.name, round_=round_of(message), partition=partition)
        answer = call_next(message, context)
        if answer.has_error():
            return answer
        key, arrays = only_arrays(answer.content, "the reply")
        model = wire.shared_tensors(received)
        layout = shared_layout(model, self.uncompressed)
        if packed := _packed_names(arrays, layout):
            x = self._repack(arrays, packed, rng)
            if isinstance(norms := answer.content.get(wire.NORM_RECORD), ConfigRecord):
                # A liar that wants to be believed reports the norm of what it pretends to have compressed.
                for name in norms:
                    norms[name] = vector_norm(x, float(name.removeprefix("norm-")))
        else:
            x, aside = dense_update(layout, model, arrays, self.reply)
            answer.content[key] = with_update(layout, model, self.transform(x, rng), aside, self.reply)
        return answer

    def _repack(self, arrays: ArrayRecord, names: Sequence[str], rng: np.random.Generator) -> Tensor:
        """Transform the named, packed Arrays in place; return the transformed vector before it was packed again."""
        packed = {name: wire.unpack_trusted(arrays[name]) for name in names}
        parts = [c.decompress(p).reshape(-1).to(working_dtype(p.dtype)) for c, p in packed.values()]
        x = self.transform(torch.cat(parts), rng)
        pieces = torch.split(x, [part.numel() for part in parts])
        for (name, (compressor, payload)), piece in zip(packed.items(), pieces, strict=True):
            arrays[name] = wire.pack(compressor.compress(piece.to(payload.dtype).reshape(payload.shape), rng), compressor)
        return x


def _packed_names(arrays: ArrayRecord, layout: Layout) -> list[str]:
    """Return the names of the packed Arrays; none if the reply is dense.

    A bfloat16 model that was sent per array by the identity codec looks like a dense reply and is taken for one.
    """
    if wire.MODEL_ARRAY in arrays:
        return [wire.MODEL_ARRAY]
    names = [slot.name for slot in layout.compressed if slot.name in arrays]
    return names if any(wire.is_packed(arrays[name]) for name in names) else []
