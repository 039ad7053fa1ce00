"""Byzantine nodes that change their update: before compression, or, listed first, after it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.attack import Attack, Kind
from flwr_robustcomp.clients.exchange import Exchange, TrainingMod
from flwr_robustcomp.clients.node import partition_of, round_of, seed_of
from flwr_robustcomp.clients.update import Reply, check_reply, dense_update, packed_names, packed_update, with_update
from flwr_robustcomp.compressors import vector_norm
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Layout, checked_patterns
from flwr_robustcomp.randomness import generator

__all__ = ["UpdateAttack"]


class UpdateAttack(Attack, TrainingMod):
    """A mod that replaces the update x of Byzantine nodes by `transform` (x).

    Parameters
    ----------
    reply : {"weights", "update"}
        What the training function replies with, as for `CompressionMod`.
    uncompressed : sequence of str
        As for `CompressionMod`.
    key : str, optional
        As for `CompressionMod`.
    **options
        Those of `Attack`.

    Notes
    -----
    Mod order is the threat model. After the compression mod in the list, ``[compression, attack]``, the attack feeds arbitrary
    values to an honest compressor: the restricted adversary of section 4. Before it, ``[attack, compression]``, the
    attack has the last word on the packed bits: the arbitrary adversary of section 5. There it reads the payload,
    transforms Q(p), and sends the nearest vector that the codec can express, since the server's decoder lets nothing else
    in.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import UpdateAttack
    >>> class Halve(UpdateAttack):
    ...     name = "halve"
    ...     def transform(self, x, rng):
    ...         return x.div_(2)
    >>> Halve(partitions=[3]).transform(torch.tensor([1.0, -2.0]), None)
    tensor([ 0.5000, -1.0000])
    """

    kind: ClassVar[Kind] = "update"

    def __init__(
        self,
        *,
        reply: Reply = "weights",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        key: str | None = None,
        **options: Any,
    ) -> None:
        check_reply(reply)
        super().__init__(**options)
        self.reply = reply
        self.uncompressed = checked_patterns(uncompressed)
        self.key = key

    @abstractmethod
    def transform(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return what the Byzantine node sends in place of x, shape (d,), same dtype; may write to x."""

    def concerns(self, message: Message, context: Context) -> bool:
        """Whether this node lies in its reply to this message."""
        return self.lies_to(message, context)

    def rewrite(self, exchange: Exchange, context: Context) -> None:
        """Transform the update, packed or not."""
        layout, model, arrays = exchange.layout, exchange.model, exchange.arrays
        rng = self.generator(seed_of(context, self.seed), round_of(exchange.message), partition_of(context))
        if packed := packed_names(arrays, layout):
            x = self._repack(arrays, packed, layout, rng)
            if isinstance(norms := exchange.answer.content.get(wire.NORM_RECORD), ConfigRecord):
                # A liar that wants to be believed reports the norm of what it pretends to have compressed.
                for name in norms:
                    norms[name] = vector_norm(x, float(name.removeprefix("norm-")))
        else:
            x, aside = dense_update(layout, model, arrays, self.reply)
            exchange.write(with_update(layout, model, self.transform(x, rng), aside, self.reply))

    def generator(self, seed: int, round_: int, partition: int) -> np.random.Generator:
        """Return what a node draws from in a round."""
        return generator(seed, self.name, round_=round_, partition=partition)

    def falsify(self, rows: Tensor, partitions: Sequence[int], round_: int, seed: int) -> None:
        """Transform the updates of those of k nodes that lie, in place; what this mod does, without any message.

        Parameters
        ----------
        rows : Tensor, shape (k, d), working precision
            The updates.
        partitions : sequence of int, k of them
            The nodes' partition ids.
        round_, seed : int
            The server round, and the run's seed.
        """
        for row, partition in zip(rows, partitions, strict=True):
            if self.lies(partition, round_, seed):
                row.copy_(self.transform(row, self.generator(seed, round_, partition)))

    def _repack(self, arrays: ArrayRecord, names: Sequence[str], layout: Layout, rng: np.random.Generator) -> Tensor:
        """Transform the named, packed Arrays in place; return the transformed vector before it was packed again."""
        x, packed = packed_update(arrays, names, layout)
        x = self.transform(x, rng)
        pieces = torch.split(x, [payload.size for _, payload in packed])
        for name, (compressor, payload), piece in zip(names, packed, pieces, strict=True):
            arrays[name] = wire.pack(compressor.compress(piece.to(payload.dtype).reshape(payload.shape), rng), compressor)
        return x
