"""Accepted updates as the dense replies that Flower's strategies read, and their result in the model's own types."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.flower import private_copy
from flwr_robustcomp.spans import DELTA_METRIC, decompress_spans
from flwr_robustcomp.strategies.flower.private import never_zero
from flwr_robustcomp.strategies.replies.receiver import UpdateReceiver
from flwr_robustcomp.strategies.replies.screening import Update

__all__ = ["dense_replies", "in_model_dtypes", "with_content"]


def dense_replies(
    updates: Sequence[Update], receiver: UpdateReceiver, step_size: float, key: str, *, clipped: bool
) -> list[Message]:
    """Return ordinary replies of w_t - gamma Q(x), with all that the clients sent besides.

    Parameters
    ----------
    updates : sequence of Update, m of them
        The accepted replies.
    receiver : UpdateReceiver
        Which asked for them.
    step_size : float
        gamma.
    key : str
        Of the ArrayRecord that the inner strategy reads.
    clipped : bool
        Whether Flower's clipping on the server reads them.
    """
    layout, spans = receiver.expected.layout, receiver.expected.spans
    w = layout.flatten(receiver.model)
    dense = []
    for update in updates:
        step = decompress_spans(update.payloads, spans, w.dtype).mul_(step_size)
        moved = never_zero(w, step) if clipped else w - step
        arrays = wire.to_arrays(_for_numpy(layout.join(moved, update.aside)))
        dense.append(with_content(update.message, _content(update.message.content, key, arrays, alone=clipped)))
    return dense


def in_model_dtypes(arrays: ArrayRecord, model: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an aggregate in the model's dtypes: Flower's means of float16 and of integers come back wider."""
    tensors = wire.from_arrays(arrays)
    return {name: tensors[name].to(model[name].dtype) for name in model}


def with_content(message: Message, content: RecordDict) -> Message:
    """Return a reply of the same node with other content; the reply itself stays as it came."""
    other = copy.copy(message)
    other.content = content
    return other


def _content(content: RecordDict, key: str, dense: ArrayRecord, *, alone: bool) -> RecordDict:
    """Return a reply's content with dense arrays in the place of the packed ones.

    Parameters
    ----------
    content : RecordDict
        As it came; left as it is.
    key : str
        The ArrayRecord's key that the inner strategy reads.
    dense : ArrayRecord
        w_t - gamma Q(x).
    alone : bool
        Whether further ArrayRecords are left out, for those who read every one as a model.

    Returns
    -------
    RecordDict
        All other records as the training function sent them: what `CompressionMod` added, a reported norm and a delta, is
        taken out.
    """
    own = private_copy(content)
    packed = [name for name, record in own.items() if isinstance(record, ArrayRecord)]
    for name in packed:
        if alone or name == key or len(packed) == 1:
            del own[name]
    own.pop(wire.NORM_RECORD, None)
    for record in own.values():
        if isinstance(record, MetricRecord):
            record.pop(DELTA_METRIC, None)
    return RecordDict({key: dense, **own})


def _for_numpy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that Flower's strategies, which compute in numpy, can read: bfloat16 becomes float32."""
    return {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in tensors.items()}
