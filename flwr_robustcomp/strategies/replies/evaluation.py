"""Evaluation replies, screened against who was asked as those of training are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message, MetricRecord

from flwr_robustcomp.flower import LOG, Metadata
from flwr_robustcomp.strategies.replies.common import (
    Metrics,
    Rejected,
    by_node,
    check_asked,
    counted_drops,
    only,
    read_metrics,
    rejections,
)
from flwr_robustcomp.strategies.replies.reply_size import EVALUATION, check_size, size_of
from flwr_robustcomp.strategies.report import Reason, Rejection, drops_in_words

__all__ = ["Evaluation", "EvaluationReceiver"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An accepted reply.

    Attributes
    ----------
    node_id : int
        Its sender.
    message : Message
        The reply itself.
    metrics : dict
        All finite; the weight is among them where it is required.
    dropped : tuple of str
        Metrics that are not finite.
    """

    node_id: int
    message: Message
    metrics: Metrics
    dropped: tuple[str, ...] = ()


class EvaluationReceiver:
    """Remembers who was asked to evaluate, and screens what comes back against it.

    Parameters
    ----------
    weight_key : str
        The metric that counts examples.
    weight_required : bool
        Whether every reply must have it. A median does not need it; a function that weights by it does.

    Attributes
    ----------
    rejected : list of Rejection
        Of the last round: never more than its replies.
    dropped : dict of str to int
        Of the last round: metrics that are not finite, with the number of the accepted replies that lost them.
    """

    def __init__(self, weight_key: str, *, weight_required: bool = True) -> None:
        self.weight_key = weight_key
        self.weight_required = weight_required
        self.dropped: dict[str, int] = {}
        self.rejected: list[Rejection] = []
        self._requests: Mapping[int, Metadata] | None = None

    def ask(self, messages: Iterable[Message]) -> list[Message]:
        """Remember the nodes that the messages go to; return the messages."""
        sent = list(messages)
        self._requests = {message.metadata.dst_node_id: message.metadata for message in sent}
        return sent

    def screen(self, replies: Iterable[Message]) -> list[Evaluation]:
        """Return the accepted replies, by ascending node id; rejections go to the log.

        Who was asked is checked where `ask` was called.
        """
        accepted: list[Evaluation] = []
        groups, self.rejected = by_node(replies, self._requests or {})
        for node_id, messages in groups:
            try:
                accepted.append(self._read(node_id, only(messages)))
            except Exception as error:  # noqa: BLE001 - as in `screen`
                self.rejected += rejections(node_id, messages, error)
        for one in self.rejected:
            LOG.warning("aggregate_evaluate: rejected node %d (%s): %s", one.node_id, one.reason, one.detail)
        self.dropped = counted_drops(name for one in accepted for name in one.dropped)
        if self.dropped:
            LOG.warning("aggregate_evaluate: %s", drops_in_words(self.dropped))
        return accepted

    def counts(self, accepted: int) -> MetricRecord:
        """Return how many replies were accepted and rejected, and how many metrics were dropped, as metrics of the round."""
        record = MetricRecord({"robustcomp.evaluated": accepted, "robustcomp.evaluations-rejected": len(self.rejected)})
        if self.dropped:
            record["robustcomp.evaluation-metrics-dropped"] = sum(self.dropped.values())
        return record

    def _read(self, node_id: int, message: Message) -> Evaluation:
        if self._requests is not None:
            check_asked(message, node_id, self._requests.keys(), self._requests)
        check_size(size_of(message, EVALUATION), EVALUATION)
        records = [record for record in message.content.values() if isinstance(record, MetricRecord)]
        if len(records) != 1:
            raise Rejected(Reason.RECORDS, f"an evaluation reply holds one MetricRecord, got {len(records)}")
        metrics, dropped = read_metrics(records[0], self.weight_key, self.weight_required)
        return Evaluation(node_id, message, metrics, tuple(dropped))
