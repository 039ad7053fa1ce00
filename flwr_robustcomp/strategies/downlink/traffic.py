"""What a round sends: bytes, the forms in which the model went, and who had to be sent it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flwr.app import MetricRecord, RecordDict

from flwr_robustcomp.downlink import Form
from flwr_robustcomp.downlink.records import array_bytes
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.strategies.report import RoundReport

__all__ = ["Traffic"]

_MOST_NODES = 8
"""Nodes that a line of the log names."""


@dataclass
class Traffic:
    """The account of the messages of one kind in one round.

    Attributes
    ----------
    sent : int
        Bytes of Array data in the messages, those that were sent again included.
    dense : int
        What the same messages would have had with the dense model.
    forms : Counter of Form
        How many nodes were sent which form first.
    again : dict of int to str
        The nodes that were sent the model again, and why.
    missed : dict of int to (int, Form)
        The nodes that missed more than the last change, how many changes they missed, and the form in which they got the model.
    """

    sent: int = 0
    dense: int = 0
    forms: Counter[Form] = field(default_factory=Counter)
    again: dict[int, str] = field(default_factory=dict)
    missed: dict[int, tuple[int, Form]] = field(default_factory=dict)

    def count(self, sent: Sequence[RecordDict], dense: Sequence[RecordDict]) -> None:
        """Count contents that are sent, and those that would have been with the dense model."""
        sizes = {id(content): array_bytes(content) for content in {id(one): one for one in (*sent, *dense)}.values()}
        self.sent += sum(sizes[id(content)] for content in sent)
        self.dense += sum(sizes[id(content)] for content in dense)

    def account(self, report: RoundReport, **fields: Any) -> RoundReport:
        """Return the report of a training round with what it sent, and other fields."""
        forms = {str(form): count for form, count in sorted(self.forms.items())}
        return replace(report, bytes_sent=self.sent, bytes_dense=self.dense, forms=forms, resent=dict(self.again), **fields)

    def evaluation_metrics(self) -> MetricRecord:
        """Return what a round of evaluation sent, as metrics."""
        return MetricRecord({"robustcomp.evaluation-bytes-sent": self.sent})

    def say_again(self, node: int, kind: str, why: str, *, at_once: bool) -> None:
        """Count and write a line for a node that could not read a model."""
        if at_once:
            self.again[node] = why
        when = "" if at_once else "when it is next asked "
        LOG.warning("\t> node %d gets the model again %s(%s): %s", node, when, kind, why)

    def say_missed(self) -> None:
        """Write one line on the nodes that missed changes, those that missed the most first; nothing where there are none."""
        if not self.missed:
            return
        ranked = sorted(self.missed.items(), key=lambda item: (-item[1][0], item[0]))
        named = ", ".join(f"node {node} missed {missed} ({form})" for node, (missed, form) in ranked[:_MOST_NODES])
        rest = f", and {len(ranked) - _MOST_NODES} more nodes" if len(ranked) > _MOST_NODES else ""
        LOG.info("\t> changes of the model to catch up with: %s%s", named, rest)
