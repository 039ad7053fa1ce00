"""What a strategy says about a round: who was kept, trimmed and rejected, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from flwr.app import MetricRecord

from flwr_robustcomp.errors import printable
from flwr_robustcomp.filters import VectorSpread
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.spans import DELTA_METRIC

__all__ = ["STRANGERS", "Reason", "Rejection", "RoundReport", "drops_in_words", "trimmed_in_words"]

STRANGERS = 0
"""The node id that stands for all senders that were not asked: their number is theirs to choose, so they share one."""

_MOST_DETAIL = 500
"""Characters of a rejection's detail: it can quote a reply, and a log line has no room for more."""

_HEAD, _TAIL = 160, 280
"""Characters that are kept of a longer text, from its beginning and from its end."""

_MOST_NAMES = 8
"""Names in a log line, of nodes or of metrics, which clients choose: there may be a thousand."""


class Reason(StrEnum):
    """Why a reply was rejected; a closed list.

    Examples
    --------
    >>> from flwr_robustcomp.strategies import Reason
    >>> Reason("wire") is Reason.WIRE, f"rejected: {Reason.WIRE}"
    (True, 'rejected: wire')
    """

    ERROR_REPLY = "error-reply"
    NOT_ASKED = "not-asked"
    DUPLICATE = "duplicate"
    RECORDS = "records"
    ARRAYS = "arrays"
    WIRE = "wire"
    NORM = "norm"
    METRICS = "metrics"
    SIZE = "size"
    UNREADABLE = "unreadable"


NO_GARBAGE = frozenset({Reason.ERROR_REPLY, Reason.NOT_ASKED})
"""Reasons that say nothing of the sender: honest nodes fail too, and a stranger can name any node."""


UNAVAILABLE = frozenset({3, 4, 5})
"""Flower's codes of errors that say nothing of the app: the message, its reply, or the node is not there."""


@dataclass(frozen=True, slots=True)
class Rejection:
    r"""One reply that was dropped before anything else looked at it.

    Attributes
    ----------
    node_id : int
        Its sender; `STRANGERS` where nothing says who sent it.
    reason : Reason
        The test that it failed.
    detail : str
        More in words. It can quote the reply, so it is made `printable` and short here, for the log and whoever reads a report.
    code : int or None
        Flower's code of an error reply; None for other reasons.

    Examples
    --------
    >>> from flwr_robustcomp.strategies import Reason, Rejection
    >>> Rejection(7, Reason.WIRE, "two\nlines")
    Rejection(node_id=7, reason=<Reason.WIRE: 'wire'>, detail='two\\nlines', code=None)
    """

    node_id: int
    reason: Reason
    detail: str
    code: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", printable(_shortened(self.detail), _MOST_DETAIL)[:_MOST_DETAIL])


def _shortened(text: str) -> str:
    """Leave out the middle of a long text: a traceback says at its end what happened."""
    return text if len(text) <= _MOST_DETAIL else f"{text[:_HEAD]} ... {text[-_TAIL:]}"


@dataclass(frozen=True, slots=True)
class RoundReport:
    """The account of one training round.

    Attributes
    ----------
    round_ : int
        The server round, from 1.
    kept : tuple of int
        Node ids whose updates went into the model.
    trimmed : dict of int to float
        Node ids that the filter dropped, with the norm that each was dropped for.
    rejected : tuple of Rejection
        Replies that failed screening.
    threshold : float or None
        The largest kept norm; None where no norm was computed.
    bytes_received : int
        Bytes of Array data in all replies, the rejected ones included.
    skipped : str or None
        Why the model was left as it is, if it was.
    quorum : bool
        Whether enough replies were accepted, as the `Policy` and the filter ask.
    delta : float or None
        Median of 1 - ||Q(p) - p||^2 / ||p||^2 over the accepted replies that tell it (``CompressionMod(report_delta=True)``).
    norms : dict of int to float
        The norm that each accepted update was judged by; empty where no norm was computed.
    step : float or None
        ||w_t - w_{t+1}|| over the arrays that are compressed; None where the model was left as it is.
    alarm : str or None
        What is wrong with the step: it is zero, or a thousand times as long as the last ones (`StepWatch`).
    weakened : str or None
        For how many liars less than asked the filters worked, in words, where too few replies came for their share.
    survived : dict of int to float
        Which share of each accepted update went into the step, by the l1 norm: 0 for one that was dropped, less than 1 for one
        that a filter shortened or a rule cut at some coordinates. Where filters mix updates, 1 is what each of those that were
        mixed would have if all of them counted alike (`surviving_shares`); above 1 is what counts for more, or was lengthened.
        Empty where the strategy does not say.
    spread : VectorSpread or None
        How unlike the accepted updates were, as the filters saw them; None where no filter looked at inner products.
    minority_warning : str or None
        Once in a run: that the filters drop nodes, and no node more often than chance would have it (`DropWatch`).
    bytes_sent : int
        Bytes of Array data in all messages of the round, those that were sent again included.
    bytes_dense : int
        What these messages would have had with the dense model.
    forms : dict of str to int
        How many nodes were sent the model in which `Form`; empty without a `Downlink`.
    resent : dict of int to str
        The nodes that were sent the model again because they could not read it, and why.
    dropped_metrics : dict of str to int
        Metrics that accepted replies lost because they were not finite, with the number of these replies.

    Examples
    --------
    >>> from flwr_robustcomp import L1Sign, NormThreshold, RoundReport
    >>> def show(report: RoundReport) -> None:
    ...     print(report.round_, report.kept, report.trimmed)
    >>> strategy = NormThreshold(compressor=L1Sign(), on_round=show)
    >>> show(RoundReport(1, kept=(7, 8), trimmed={9: 12.5}))
    1 (7, 8) {9: 12.5}
    """

    round_: int
    kept: tuple[int, ...] = ()
    trimmed: dict[int, float] = field(default_factory=dict)
    rejected: tuple[Rejection, ...] = ()
    threshold: float | None = None
    bytes_received: int = 0
    skipped: str | None = None
    quorum: bool = True
    delta: float | None = None
    norms: dict[int, float] = field(default_factory=dict)
    step: float | None = None
    alarm: str | None = None
    weakened: str | None = None
    survived: dict[int, float] = field(default_factory=dict)
    spread: VectorSpread | None = None
    minority_warning: str | None = None
    bytes_sent: int = 0
    bytes_dense: int = 0
    forms: dict[str, int] = field(default_factory=dict)
    resent: dict[int, str] = field(default_factory=dict)
    dropped_metrics: dict[str, int] = field(default_factory=dict)

    def metrics(self) -> MetricRecord:
        """Return the report as metrics of the round, under names that start with ``robustcomp.``."""
        record = MetricRecord()
        record["robustcomp.kept"] = len(self.kept)
        record["robustcomp.trimmed"] = len(self.trimmed)
        record["robustcomp.rejected"] = len(self.rejected)
        record["robustcomp.bytes-received"] = self.bytes_received
        record["robustcomp.bytes-sent"] = self.bytes_sent
        for form, count in self.forms.items():
            record[f"robustcomp.sent-{form}"] = count
        if self.resent:
            record["robustcomp.resent-nodes"] = list(self.resent)
        if self.threshold is not None:
            record["robustcomp.norm-threshold"] = self.threshold
        if self.delta is not None:
            record[DELTA_METRIC] = self.delta
        if self.step is not None:
            record["robustcomp.step-norm"] = self.step
            record["robustcomp.alarm"] = int(self.alarm is not None)
        if self.weakened is not None:
            record["robustcomp.weakened"] = 1
        if self.spread is not None:
            record.update(_spread_metrics(self.spread))
        if self.minority_warning is not None:
            record["robustcomp.minority-warning"] = 1
        if self.dropped_metrics:
            record["robustcomp.metrics-dropped"] = sum(self.dropped_metrics.values())
        if self.survived:
            record["robustcomp.survived"] = list(self.survived.values())
            record["robustcomp.survived-nodes"] = list(self.survived)
        if self.trimmed:
            record["robustcomp.trimmed-nodes"] = list(self.trimmed)
        if self.rejected:
            record["robustcomp.rejected-nodes"] = [r.node_id for r in self.rejected]
        return record

    def log(self) -> None:
        """Write the report to Flower's log: one line, and one for each rejection, an alarm, and a skipped round."""
        threshold = "" if self.threshold is None else f" (norm threshold {self.threshold:.4g})"
        further = "" if self.delta is None else f"; delta {self.delta:.3g}"
        further += "" if self.spread is None else f"; {self.spread}"
        LOG.info(
            "aggregate_train: kept %d, trimmed %d%s, rejected %d replies; %d bytes received, %d sent%s%s",
            len(self.kept),
            len(self.trimmed),
            threshold,
            len(self.rejected),
            self.bytes_received,
            self.bytes_sent,
            f" ({', '.join(f'{count} {form}' for form, count in self.forms.items())})" if self.forms else "",
            further,
        )
        if self.trimmed:
            LOG.info("\t> %s", trimmed_in_words(self.trimmed))
        for rejection in self.rejected:
            LOG.warning("\t> rejected node %d (%s): %s", rejection.node_id, rejection.reason, rejection.detail)
        if self.dropped_metrics:
            LOG.warning("\t> %s", drops_in_words(self.dropped_metrics))
        if self.weakened is not None:
            LOG.warning("\t> round %d: too few replies, the filters work for fewer liars: %s", self.round_, self.weakened)
        if self.minority_warning is not None:
            LOG.warning("\t> round %d: %s", self.round_, self.minority_warning)
        if self.alarm is not None:
            LOG.warning("\t> ALARM in round %d: %s", self.round_, self.alarm)
        if self.skipped is not None:
            LOG.warning("\t> round %d leaves the model as it is: %s", self.round_, self.skipped)


def _spread_metrics(spread: VectorSpread) -> dict[str, float]:
    """Return what is known of a spread as metrics."""
    low, middle, high = spread.cosines or (None, None, None)
    named = {"ratio": spread.ratio, "direction-ratio": spread.direction_ratio}
    named |= {"cosine-5": low, "cosine-50": middle, "cosine-95": high}
    return {f"robustcomp.spread-{name}": value for name, value in named.items() if value is not None}


def trimmed_in_words(trimmed: Mapping[int, float]) -> str:
    """Return one line on the nodes that were trimmed, those of the largest norms first."""
    ranked = sorted(trimmed.items(), key=lambda item: (-item[1], item[0]))
    return f"trimmed, with their norms: {_listed([f'{node} ({norm:.4g})' for node, norm in ranked])}"


def drops_in_words(dropped: Mapping[str, int]) -> str:
    """Return one line on the metrics that were dropped, those of the most replies first."""
    ranked = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return f"metrics dropped, not finite: {_listed([f'{name[:64]} (of {count} replies)' for name, count in ranked])}"


def _listed(items: Sequence[str]) -> str:
    """Return the first few of a list, and how many more there are."""
    rest = f", and {len(items) - _MOST_NAMES} more" if len(items) > _MOST_NAMES else ""
    return f"{', '.join(items[:_MOST_NAMES])}{rest}"
