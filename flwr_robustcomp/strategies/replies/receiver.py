"""The memory between `configure_train` and `aggregate_train`: w_t and who was asked, which Flower does not hand over."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, Message
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies.replies.reply_size import MODELS
from flwr_robustcomp.strategies.replies.screening import RoundRequest, Screened, screen

__all__ = ["UpdateReceiver"]


class UpdateReceiver:
    """Remembers what a round asked for, and screens what comes back against it.

    Parameters
    ----------
    packing : Packing
        Equal to the clients'.
    norm_order : float, optional
        The order of the norm that clients must report.
    weight_key : str
        The metric that counts examples.
    weight_required : bool
        Whether a reply without that metric is rejected.
    arrays_key : str
        The key of the model's ArrayRecord, where a reply has several.

    Attributes
    ----------
    models_per_reply : float
        How many times as large as the dense model a reply may be, its further records included; to be set before a run.
    """

    def __init__(
        self,
        packing: Packing,
        *,
        norm_order: float | None = None,
        weight_key: str = "num-examples",
        weight_required: bool = False,
        arrays_key: str = "arrays",
    ) -> None:
        self.packing = packing
        self.norm_order = norm_order
        self.weight_key = weight_key
        self.weight_required = weight_required
        self.arrays_key = arrays_key
        self.models_per_reply = MODELS
        self.model: dict[str, Tensor] = {}
        self._expected: RoundRequest | None = None

    def ask(self, server_round: int, arrays: ArrayRecord, messages: Iterable[Message]) -> list[Message]:
        """Remember the round, w_t and the nodes that the messages go to; return the messages."""
        sent = list(messages)
        self.model = wire.shared_tensors(arrays)
        layout = self.packing.layout(self.model)
        self.packing.check(layout)
        self._expected = RoundRequest(
            layout,
            self.packing.spans(layout, server_round, reading=True),
            frozenset(message.metadata.dst_node_id for message in sent),
            self.norm_order,
            self.weight_key,
            self.weight_required,
            {message.metadata.dst_node_id: message.metadata for message in sent},
            self.arrays_key,
            self.models_per_reply,
        )
        return sent

    @property
    def expected(self) -> RoundRequest:
        """What the current round asked for."""
        if self._expected is None:
            raise ConfigurationError("aggregate_train needs the round's model: call configure_train first")
        return self._expected

    def screen(self, replies: Iterable[Message]) -> Screened:
        """Screen a round's replies."""
        return screen(replies, self.expected)
