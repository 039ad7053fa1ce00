"""Evaluation replies: screened against who was asked, and summed up so that no client decides what the operator sees."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from flwr.app import Message, MetricRecord, RecordDict

from flwr_robustcomp.flower import LOG, Metadata
from flwr_robustcomp.strategies.replies import Metrics, Rejected, by_node, check_asked, only, read_metrics, rejections
from flwr_robustcomp.strategies.report import Reason, Rejection

__all__ = ["EvaluationReceiver", "median_metrics"]


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

    def screen(self, replies: Iterable[Message]) -> dict[int, Metrics]:
        """Return the metrics of each accepted node, by ascending node id; rejections go to the log.

        Who was asked is checked where `ask` was called.
        """
        accepted: dict[int, Metrics] = {}
        self.rejected = []
        for node_id, messages in by_node(replies, self._requests or {}):
            try:
                message = only(messages)
                accepted[node_id] = self._read(message)
            except Exception as error:  # noqa: BLE001 - as in `screen`
                self.rejected += rejections(node_id, messages, error)
        for one in self.rejected:
            LOG.warning("aggregate_evaluate: rejected node %d (%s): %s", one.node_id, one.reason, one.detail)
        return accepted

    def counts(self, accepted: int) -> MetricRecord:
        """Return how many replies were accepted and rejected, as metrics of the round."""
        return MetricRecord({"robustcomp.evaluated": accepted, "robustcomp.evaluations-rejected": len(self.rejected)})

    def _read(self, message: Message) -> Metrics:
        if self._requests is not None:
            check_asked(message, self._requests.keys(), self._requests)
        records = [record for record in message.content.values() if isinstance(record, MetricRecord)]
        if len(records) != 1:
            raise Rejected(Reason.RECORDS, f"an evaluation reply holds one MetricRecord, got {len(records)}")
        return read_metrics(records[0], self.weight_key, weight_required=True)


def median_metrics(contents: Sequence[RecordDict], weight_key: str) -> MetricRecord:
    """Return the median over clients of every metric, entry by entry; a Flower metrics aggregation function.

    Parameters
    ----------
    contents : sequence of RecordDict, m of them
        One MetricRecord each, all with the same keys and lengths, as `alike_contents` makes them.
    weight_key : str
        Left out of the result and not used: a client that claims 2^53 examples counts once.

    Returns
    -------
    MetricRecord
        Empty if there are no contents.

    Notes
    -----
    While fewer than half of the m values are a liar's, the median lies within the range of the honest ones: both middle values
    of an even m do, and so does their mean.
    """
    records = [next(iter(content.metric_records.values())) for content in contents]
    result = MetricRecord()
    for key in records[0] if records else ():
        if key == weight_key:
            continue
        if isinstance(records[0][key], list):
            columns = zip(*(cast("list[float]", record[key]) for record in records), strict=True)
            result[key] = [_median(column) for column in columns]
        else:
            result[key] = _median([cast(float, record[key]) for record in records])
    return result


def _median(values: Sequence[int | float]) -> float:
    low, high = float(statistics.median_low(values)), float(statistics.median_high(values))
    middle = (low + high) / 2
    return middle if math.isfinite(middle) else low / 2 + high / 2
