"""Momentum on the clients, which keeps honest nodes close together (Karimireddy, He and Jaggi 2021)."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.node import is_training, only_arrays
from flwr_robustcomp.clients.old_api import is_old, through_old_api
from flwr_robustcomp.clients.update import Reply, check_reply, dense_update, with_update
from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, shared_layout

__all__ = ["MOMENTUM_RECORD", "ClientMomentum", "load_momentum", "momentum_record", "momentum_step"]

MOMENTUM_RECORD = "robustcomp.momentum"
"""Name of the ArrayRecord in `Context.state` that keeps m between rounds."""


class ClientMomentum:
    """A mod that replies with m_t = beta m_{t-1} + (1 - beta) x_t in place of the update x_t.

    Parameters
    ----------
    beta : float
        In [0, 1); 0 changes nothing.
    reply : {"weights", "update"}
        What the training function replies with.
    uncompressed : tuple of str
        As for `CompressionMod`; batch statistics have no momentum.

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

    def __init__(self, beta: float, *, reply: Reply = "weights", uncompressed: tuple[str, ...] = DEFAULT_UNCOMPRESSED) -> None:
        require(0 <= beta < 1, "client_momentum", beta, "in [0, 1)")
        check_reply(reply)
        self.beta = beta
        self.reply = reply
        self.uncompressed = uncompressed

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Train, mix, remember, reply."""
        if is_old(message):
            return through_old_api(self, message, context, call_next)
        if not is_training(message):
            return call_next(message, context)
        _, received = only_arrays(message.content, "the server's message")
        answer = call_next(message, context)
        if answer.has_error():
            return answer
        model = wire.shared_tensors(received)
        layout = shared_layout(model, self.uncompressed)
        key, arrays = only_arrays(answer.content, "the reply")
        x, aside = dense_update(layout, model, arrays, self.reply)
        m = momentum_step(x, load_momentum(context.state, x), self.beta)
        context.state[MOMENTUM_RECORD] = momentum_record(m)
        answer.content[key] = with_update(layout, model, m, aside, self.reply)
        return answer


def momentum_step(x: Tensor, momentum: Tensor | None, beta: float) -> Tensor:
    """Return beta m + (1 - beta) x, shape (d,); x where there is no m yet."""
    return x if momentum is None else momentum.mul(beta).add_(x, alpha=1 - beta)


def load_momentum(state: RecordDict, like: Tensor) -> Tensor | None:
    """Return m from a node's state, or None where there is none of this shape and dtype."""
    record = state.get(MOMENTUM_RECORD)
    if not isinstance(record, ArrayRecord) or "m" not in record:
        return None
    momentum = wire.read_dense(record["m"])
    if momentum.shape != like.shape or momentum.dtype != like.dtype:
        LOG.warning("Momentum of shape %s dropped: the model has d = %d", tuple(momentum.shape), len(like))
        return None
    return momentum


def momentum_record(momentum: Tensor) -> ArrayRecord:
    """Return m as it is kept in a node's state."""
    record = ArrayRecord()
    record["m"] = wire.to_array(momentum)
    return record
