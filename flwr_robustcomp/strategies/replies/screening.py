"""Foreign replies become accepted updates or rejections with a reason; a client's fault never raises."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import Payload
from flwr_robustcomp.errors import WireError
from flwr_robustcomp.flower import Metadata
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.spans import DELTA_METRIC, Span
from flwr_robustcomp.strategies.replies.common import (
    Metrics,
    Rejected,
    by_node,
    check_asked,
    counted_drops,
    is_finite,
    only,
    read_metrics,
    rejections,
    shown,
)
from flwr_robustcomp.strategies.replies.reply_size import MODELS, Limits, Size, check_size, size_of, training_limits
from flwr_robustcomp.strategies.report import Reason, Rejection
from flwr_robustcomp.strategies.sort_norm import combine_norms

__all__ = ["Metrics", "RoundRequest", "Screened", "Update", "screen"]


@dataclass(frozen=True)
class RoundRequest:
    """What the server asked for; everything that a reply is held against.

    Attributes
    ----------
    layout : Layout
        Of w_t.
    spans : sequence of Span
        The vectors that are compressed, each with its compressor.
    nodes : set of int
        The node ids that were asked.
    norm_order : float or None
        The order of the norm that must be reported, None if none is needed.
    weight_key : str
        The metric that counts examples.
    weight_required : bool
        Whether that metric must be there.
    requests : mapping of int to Metadata
        What each node was asked with, as far as it is known: a reply must be to that very message.
    arrays_key : str
        The key of the model's ArrayRecord, where a reply has several.
    models : float
        How many times as large as the dense model a reply may be, its further records included.
    """

    layout: Layout
    spans: Sequence[Span]
    nodes: AbstractSet[int]
    norm_order: float | None = None
    weight_key: str = "num-examples"
    weight_required: bool = False
    requests: Mapping[int, Metadata] = field(default_factory=dict)
    arrays_key: str = "arrays"
    models: float = MODELS

    @functools.cached_property
    def limits(self) -> Limits:
        """How large a reply may be."""
        return training_limits(self.layout, self.models)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of the Arrays in a reply."""
        packed = {span.name or wire.MODEL_ARRAY for span in self.spans}
        return frozenset(packed | {slot.name for slot in self.layout.uncompressed})


@dataclass(frozen=True, slots=True)
class Update:
    """An accepted reply.

    Attributes
    ----------
    message : Message
        The reply itself, with whatever records it holds beside the model: foreign, and not looked at (`further_arrays`).
    node_id : int
        Its sender.
    payloads : tuple of Payload
        Q(x), one for each span.
    aside : dict of str to Tensor
        The arrays that travelled uncompressed.
    reported_norm : float or None
        ||x||_q as reported, within the bounds that the payloads allow.
    metrics : dict
        The client's own metrics, all finite.
    delta : float or None
        What the client says its compression achieved; for the report alone.
    dropped : tuple of str
        The client's metrics that are not finite.
    weight : float
        How many examples the client claims; 0 where it does not say.
    """

    message: Message
    node_id: int
    payloads: tuple[Payload, ...]
    aside: dict[str, Tensor]
    reported_norm: float | None
    metrics: Metrics
    delta: float | None = None
    dropped: tuple[str, ...] = ()
    weight: float = 0.0


@dataclass(slots=True)
class Screened:
    """The outcome of screening a round's replies; accepted ones in the order of their node ids."""

    accepted: list[Update] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    bytes_received: int = 0
    asked: AbstractSet[int] = frozenset()

    @property
    def dropped_metrics(self) -> dict[str, int]:
        """Metrics that are not finite, with the number of the accepted replies that lost them."""
        return counted_drops(name for update in self.accepted for name in update.dropped)


def screen(replies: Iterable[Message], expected: RoundRequest) -> Screened:
    """Screen the replies of a training round.

    Parameters
    ----------
    replies : iterable of Message
        Whatever came back.
    expected : RoundRequest
        What was asked for.

    Returns
    -------
    Screened
        Sorted by node id, so that no sum depends on the order of arrival. Of two replies from one node both are rejected:
        nothing says which is meant. Of a reply that is too large, ``bytes_received`` has what was counted until that was known.
    """
    groups, lost = by_node(replies, expected.requests)
    outcome = Screened(rejected=lost, asked=expected.nodes)
    for node_id, messages in groups:
        try:
            sizes = [size_of(message, expected.limits) for message in messages]
            outcome.bytes_received += sum(size.arrays for size in sizes)
            outcome.accepted.append(_read(node_id, only(messages), sizes[0], expected))
        except Exception as error:  # noqa: BLE001 - whatever a reply does, it costs that reply only
            outcome.rejected += rejections(node_id, messages, error)
    return outcome


def _read(node_id: int, message: Message, size: Size, expected: RoundRequest) -> Update:
    check_asked(message, node_id, expected.nodes, expected.requests)
    check_size(size, expected.limits)  # before anything walks the content
    arrays, metrics, norms = _records(message.content, expected.arrays_key)
    if arrays.keys() != expected.names:
        found = heapq.nsmallest(8, (name[:64] for name in arrays))
        raise Rejected(Reason.ARRAYS, f"arrays must be {sorted(expected.names)[:8]}, got {found} ({len(arrays)})")
    try:
        payloads = tuple(_payload(arrays, span) for span in expected.spans)
        aside = {s.name: _aside(arrays[s.name], s.shape, s.dtype) for s in expected.layout.uncompressed}
    except WireError as error:
        raise Rejected(Reason.WIRE, str(error)) from error
    norm = None if expected.norm_order is None else _reported_norm(norms, payloads, expected.spans, expected.norm_order)
    told, dropped = read_metrics(metrics, expected.weight_key, expected.weight_required, ours=(DELTA_METRIC,))
    delta = told.pop(DELTA_METRIC, None)  # not for the strategies' metric aggregation, which takes means
    delta = None if isinstance(delta, list | None) else float(delta)
    weight = float(str(told.get(expected.weight_key, 0)))
    return Update(message, node_id, payloads, aside, norm, told, delta, tuple(dropped), weight)


def _records(content: RecordDict, key: str) -> tuple[ArrayRecord, Mapping[str, Any], Mapping[str, Any]]:
    """Return the model's ArrayRecord, the metrics, if any, and the reported norms, if any.

    A single ArrayRecord is the model's under any key; of several it is the one under ``key``. The others stay in the message.
    """
    arrays: dict[str, ArrayRecord] = {}
    metrics: list[MetricRecord] = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays[name] = record
        elif isinstance(record, MetricRecord):
            metrics.append(record)
    if len(metrics) > 1 or not arrays or (len(arrays) > 1 and key not in arrays):
        raise Rejected(
            Reason.RECORDS,
            f"a reply holds one ArrayRecord, or the model under {key!r} and further ones, and at most one MetricRecord, "
            f"got {len(arrays)} ArrayRecords and {len(metrics)} MetricRecords",
        )
    norms = content.get(wire.NORM_RECORD)
    model = arrays[key] if len(arrays) > 1 else next(iter(arrays.values()))
    return model, metrics[0] if metrics else {}, norms if isinstance(norms, ConfigRecord) else {}


def _payload(arrays: Mapping[str, Array], span: Span) -> Payload:
    return wire.read_packed(arrays[span.name or wire.MODEL_ARRAY], span.compressor, span.shape, span.dtype)


def _aside(array: Array, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    if wire.is_packed(array):
        raise WireError(f"it must travel as it is, got {array.stype[:64]!r}: uncompressed must be equal on both sides")
    tensor = wire.read_dense(array, tuple(shape), dtype)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise WireError("an uncompressed array has NaN or inf")
    return tensor


def _reported_norm(norms: Mapping[str, Any], payloads: Sequence[Payload], spans: Sequence[Span], order: float) -> float:
    """Return the reported norm if some x with these payloads has it."""
    value = norms.get(wire.norm_key(order))
    if not isinstance(value, int | float) or isinstance(value, bool) or not is_finite(value) or value < 0:
        raise Rejected(Reason.NORM, f"{wire.norm_key(order)} must be reported, finite and non-negative, got {shown(value)}")
    bounds = [span.compressor.norm_bounds(p, order) for span, p in zip(spans, payloads, strict=True)]
    low, high = (combine_norms(side, order) for side in zip(*bounds, strict=True))
    # The payload was rounded to the model's dtype, the norm was not: a few units in the last place, or of the smallest
    # normal number where the scale is subnormal.
    info = torch.finfo(payloads[0].dtype)
    slack = 8 * info.eps * value + info.tiny * sum(p.size for p in payloads)
    if not low - slack <= value <= high + slack:
        raise Rejected(
            Reason.NORM, f"{wire.norm_key(order)} must be in [{low:.6g}, {high:.6g}] for this payload, got {value:.6g}"
        )
    return float(value)
