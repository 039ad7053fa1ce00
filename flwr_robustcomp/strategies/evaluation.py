"""Evaluation replies, screened against who was asked as those of training are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message, MetricRecord

from flwr_robustcomp.flower import LOG, Metadata
from flwr_robustcomp.strategies.replies import Metrics, Rejected, by_node, check_asked, only, read_metrics, rejections
from flwr_robustcomp.strategies.reply_size import EVALUATION, check_size, size_of
from flwr_robustcomp.strategies.report import Reason, Rejection

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
        All finite; the weight is among them.
    """

    node_id: int
    message: Message
    metrics: Metrics


class EvaluationReceiver:
    """Remembers who was asked to evaluate, and screens what comes back against it.

    Parameters
    ----------
    weight_key : str
        The metric that counts examples; every reply must have it.

    Attributes
    ----------
    rejected : list of Rejection
        Of the last round: never more than its replies.
    """

    def __init__(self, weight_key: str) -> None:
        self.weight_key = weight_key
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
        return accepted

    def counts(self, accepted: int) -> MetricRecord:
        """Return how many replies were accepted and rejected, as metrics of the round."""
        return MetricRecord({"robustcomp.evaluated": accepted, "robustcomp.evaluations-rejected": len(self.rejected)})

    def _read(self, node_id: int, message: Message) -> Evaluation:
        if self._requests is not None:
            check_asked(message, node_id, self._requests.keys(), self._requests)
        check_size(size_of(message, EVALUATION), EVALUATION)
        records = [record for record in message.content.values() if isinstance(record, MetricRecord)]
        if len(records) != 1:
            raise Rejected(Reason.RECORDS, f"an evaluation reply holds one MetricRecord, got {len(records)}")
        return Evaluation(node_id, message, read_metrics(records[0], self.weight_key, weight_required=True))
