"""Momentum on the clients, which keeps honest nodes close together (Karimireddy, He and Jaggi 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import ArrayRecord, Context, RecordDict
from torch import Tensor

from flwr_robustcomp.clients.exchange import Exchange, TrainingMod
from flwr_robustcomp.clients.node_vector import NodeVector
from flwr_robustcomp.clients.update import Reply, check_reply, dense_update, with_update
from flwr_robustcomp.errors import require
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, checked_patterns

__all__ = ["MOMENTUM", "ClientMomentum", "momentum_step"]

MOMENTUM = NodeVector("robustcomp.momentum", "m", "Momentum")
"""m, which a node keeps between rounds."""


class ClientMomentum(TrainingMod):
    """A mod that replies with m_t = beta m_{t-1} + (1 - beta) x_t in place of the update x_t.

    Parameters
    ----------
    beta : float
        In [0, 1); 0 changes nothing.
    reply : {"weights", "update"}
        What the training function replies with.
    uncompressed : sequence of str
        As for `CompressionMod`; batch statistics have no momentum.
    key : str, optional
        As for `CompressionMod`.

    Notes
    -----
    Listed last, innermost: attacks and the compressor see m. The first round replies with x itself, m_1 = x_1: a start from
    zero would shrink the first steps.

    Examples
    --------
    >>> from flwr.clientapp import ClientApp
    >>> from flwr_robustcomp import CompressionMod, L1Sign
    >>> from flwr_robustcomp.clients import ClientMomentum
    >>> app = ClientApp(mods=[CompressionMod(L1Sign()), ClientMomentum(0.9)])
    """

    def __init__(
        self,
        beta: float,
        *,
        reply: Reply = "weights",
        uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED,
        key: str | None = None,
    ) -> None:
        require(0 <= beta < 1, "client_momentum", beta, "in [0, 1)")
        check_reply(reply)
        self.beta = beta
        self.reply = reply
        self.uncompressed = checked_patterns(uncompressed)
        self.key = key

    def rewrite(self, exchange: Exchange, context: Context) -> None:
        """Mix, remember, reply."""
        x, aside = dense_update(exchange.layout, exchange.model, exchange.arrays, self.reply)
        (kept,) = self.mix(x[None], [context.state])
        context.state[MOMENTUM.record] = kept
        exchange.write(with_update(exchange.layout, exchange.model, x, aside, self.reply))

    def mix(self, rows: Tensor, states: Sequence[RecordDict]) -> list[ArrayRecord]:
        """Replace the updates of k nodes by their momenta; what this mod does, without any message.

        Parameters
        ----------
        rows : Tensor, shape (k, d), working precision
            The updates. They become m in place.
        states : sequence of RecordDict, k of them
            What each node keeps.

        Returns
        -------
        list of ArrayRecord
            What each node keeps from now on, under ``MOMENTUM.record``.
        """
        kept = []
        for row, state in zip(rows, states, strict=True):
            row.copy_(momentum_step(row, MOMENTUM.load(state, len(row), row.dtype), self.beta))
            kept.append(MOMENTUM.kept(row))
        return kept


def momentum_step(x: Tensor, momentum: Tensor | None, beta: float) -> Tensor:
    """Return beta m + (1 - beta) x, shape (d,); x where there is no m yet."""
    return x if momentum is None else momentum.mul(beta).add_(x, alpha=1 - beta)
