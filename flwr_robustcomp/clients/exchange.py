"""One training exchange as a mod sees it: what the server sent, and what the node replied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients.incoming import with_model
from flwr_robustcomp.clients.node import array_records, is_training, model_keys
from flwr_robustcomp.clients.old_api import call_next_or_explain, is_old, through_old_api
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Layout, shared_layout

__all__ = ["Exchange", "TrainingMod", "train_and_read"]


@dataclass(frozen=True)
class Exchange:
    """What a node received and what it replied.

    Attributes
    ----------
    message : Message
        The server's.
    answer : Message
        The node's; no error. A mod rewrites its content.
    key : str
        Where the model stands in the answer.
    model : dict of str to Tensor
        w_t; shared with other nodes of the process, and not to be written to.
    layout : Layout
        Of the model.
    """

    message: Message
    answer: Message
    key: str
    model: dict[str, Tensor]
    layout: Layout

    @property
    def arrays(self) -> ArrayRecord:
        """The model's arrays in the answer."""
        return array_records(self.answer.content)[self.key]

    def write(self, arrays: ArrayRecord) -> None:
        """Put other arrays in their place."""
        self.answer.content[self.key] = arrays


def train_and_read(
    message: Message,
    context: Context,
    call_next: ClientAppCallable,
    *,
    uncompressed: tuple[str, ...],
    key: str | None = None,
) -> Exchange | Message:
    """Let the node train, and find the model in what it received and replied.

    Parameters
    ----------
    message : Message
        A request to train.
    context : Context
        The node's.
    call_next : callable
        What the mod is listed before.
    uncompressed : tuple of str
        As for `Packing`.
    key : str, optional
        Of the model's ArrayRecord, if it cannot be told from the others (`model_keys`).

    Returns
    -------
    Exchange or Message
        The answer itself if it is an error.

    Raises
    ------
    ConfigurationError
        If the model cannot be found on one of the two sides.
    """
    received = array_records(message.content)
    if not received or (key is not None and key not in received):
        model = "the model" if key is None else f"the model under {key!r}"
        raise ConfigurationError(f"the server's message must hold {model} as an ArrayRecord, got {sorted(message.content)}")
    answer = call_next_or_explain(call_next, message, context)
    if answer.has_error():
        return answer
    theirs, ours = model_keys(received, array_records(answer.content), key)
    tensors = wire.shared_tensors(received[theirs])
    return Exchange(message, answer, ours, tensors, shared_layout(tensors, uncompressed))


class TrainingMod(ABC):
    """Base of the mods that rewrite a training reply; messages of the old API, evaluation and errors are seen to here.

    Attributes
    ----------
    uncompressed : tuple of str
        As for `Packing`.
    key : str or None
        Of the model's ArrayRecord, if it cannot be told from the others.
    """

    uncompressed: tuple[str, ...] = DEFAULT_UNCOMPRESSED
    key: str | None = None

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Unpack the model, let the node train, and rewrite its reply; other messages pass with the model unpacked."""
        if is_old(message):
            return through_old_api(self, message, context, call_next)
        return with_model(message, context, lambda dense: self._answer(dense, context, call_next))

    def _answer(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if not self.concerns(message, context):
            return call_next(message, context)
        exchange = train_and_read(message, context, call_next, uncompressed=self.uncompressed, key=self.key)
        if isinstance(exchange, Message):
            return exchange
        self.rewrite(exchange, context)
        return exchange.answer

    def concerns(self, message: Message, context: Context) -> bool:
        """Whether the reply to this message is to be rewritten: by default, whether it asks for training."""
        return is_training(message)

    @abstractmethod
    def rewrite(self, exchange: Exchange, context: Context) -> None:
        """Change the answer of the exchange in place, and what the node keeps in ``context.state``."""
