"""Calling an inner strategy with replies that need not be alike, and whose fault it is where it raises."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)

from flwr_robustcomp.errors import printable
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.strategies.flower.dense_replies import with_content
from flwr_robustcomp.strategies.flower.inner import attributes, core_of, layers_of
from flwr_robustcomp.strategies.replies.common import shown
from flwr_robustcomp.strategies.replies.screening import Screened
from flwr_robustcomp.strategies.report import Reason, Rejection

__all__ = ["in_words", "lenient", "odd_ones", "sums_up_itself", "where", "without_odd_ones"]

FLOWERS_MEAN = FedAvg().train_metrics_aggr_fn
"""What Flower sums up metrics by where no function is given: a mean weighted by claimed examples."""

_FLOWERS = (
    FedAvg.aggregate_evaluate,
    DifferentialPrivacyServerSideFixedClipping.aggregate_evaluate,
    DifferentialPrivacyServerSideAdaptiveClipping.aggregate_evaluate,
)
"""Those of Flower that do not look into the replies; clipping on the client shares them."""


def lenient(core: FedAvg, medians: Callable[[], MetricRecord], *, training: bool) -> AbstractContextManager[None]:
    """Let a FedAvg take replies that are not alike, for the time of a ``with`` block.

    Parameters
    ----------
    core : FedAvg
        Flower's, or a descendant.
    medians : callable
        Returns the round's metrics as `metrics.medians` sums them up.
    training : bool
        Whether the replies are to training or to evaluation.

    Notes
    -----
    Flower's `FedAvg` raises, which ends the run, unless all replies have the same metrics under the same names. Its means of
    arrays need one ArrayRecord and a weight for each reply, which screening has seen to. So the comparison is left out, and in
    its place a reply loses what the mean of arrays would take for a model: all ArrayRecords but one.
    A metrics function of the user's own sees the replies as they came. Where it raises, the medians stand in for this round: a
    client's metrics must not end the run. In the place of Flower's mean of metrics stand the medians in any case.
    """
    name = "train_metrics_aggr_fn" if training else "evaluate_metrics_aggr_fn"
    theirs, check = getattr(core, name), core._check_and_log_replies

    def checked(replies: Iterable[Message], is_train: bool, validate: bool = True) -> tuple[list[Message], list[Message]]:
        valid, errors = check(replies, is_train, validate=False)
        if is_train and validate:
            valid = [with_content(reply, _for_mean(reply.content, core)) for reply in valid]
        return valid, errors

    def summed_up(contents: list[RecordDict], weight_key: str) -> MetricRecord:
        if theirs is FLOWERS_MEAN:
            return medians()
        try:
            return MetricRecord(dict(theirs(contents, weight_key)))
        except Exception as error:  # noqa: BLE001 - somebody's own function, on what clients chose to send
            LOG.warning("%s raised %s: the medians stand in for it in this round", name, in_words(error))
            return medians()

    return attributes(core, {name: summed_up, "_check_and_log_replies": checked})


def _for_mean(content: RecordDict, core: FedAvg) -> RecordDict:
    arrays = [key for key, record in content.items() if isinstance(record, ArrayRecord)]
    if len(arrays) == 1:
        return content
    model = core.arrayrecord_key if core.arrayrecord_key in arrays else next(iter(arrays), "")
    return RecordDict({key: record for key, record in content.items() if key == model or key not in arrays})


def sums_up_itself(strategy: Strategy) -> bool:
    """Whether a strategy sums up evaluations in a way of its own, and not by Flower's mean."""
    core = core_of(strategy)
    default = all(type(layer).aggregate_evaluate in _FLOWERS for layer in layers_of(strategy))
    return not default or core.evaluate_metrics_aggr_fn is not FLOWERS_MEAN


def odd_ones(contents: Sequence[RecordDict]) -> dict[int, str]:
    """Return the places of the contents whose form is not that of the majority, and one thing in which each differs.

    Parameters
    ----------
    contents : sequence of RecordDict, m of them
        Of accepted replies.

    Returns
    -------
    dict of int to str
        The form of a content is the names and kinds of its records, and of MetricRecords and ConfigRecords the names, types and
        lengths of their entries. What more than half of the contents have is usual. Whoever lacks some of it, or has more, is
        odd.

    Examples
    --------
    >>> from flwr.app import MetricRecord, RecordDict
    >>> told = [{"loss": 1.0}, {"loss": 2.0}, {"loss": [3.0]}]
    >>> odd_ones([RecordDict({"metrics": MetricRecord(one)}) for one in told])
    {2: "lacks 'loss' of 'metrics', a number"}
    """
    forms = [_form(content) for content in contents]
    counts = Counter(item for form in forms for item in form)
    usual = {item for item, count in counts.items() if 2 * count > len(contents)}
    odd = {}
    for i, form in enumerate(forms):
        if lacking := sorted(usual - form):
            odd[i] = f"lacks {lacking[0]}"
        elif more := sorted(form - usual):
            odd[i] = f"has {more[0]}"
    return odd


def without_odd_ones(screened: Screened, contents: Sequence[RecordDict], error: Exception) -> bool:
    """Reject, in place, the accepted replies that `odd_ones` names; return whether that leaves some and takes some.

    Parameters
    ----------
    screened : Screened
        The round's replies.
    contents : sequence of RecordDict
        Of the accepted ones, in their order, as the inner strategy was given them.
    error : Exception
        What the inner strategy raised.
    """
    odd = odd_ones(contents)
    if not 0 < len(odd) < len(contents):
        return False
    for i, how in odd.items():
        why = f"its records differ from most, it {how}, and the inner strategy raised {in_words(error)}"
        screened.rejected.append(Rejection(screened.accepted[i].node_id, Reason.RECORDS, why))
    screened.accepted = [update for i, update in enumerate(screened.accepted) if i not in odd]
    return True


def _form(content: RecordDict) -> set[str]:
    form = set()
    for key, record in content.items():
        form.add(f"a {type(record).__name__} {printable(key, 64)!r}")
        form |= {f"{printable(name, 64)!r} of {printable(key, 64)!r}, {_kind(value)}" for name, value in record.items()}
    return form


def _kind(value: Any) -> str:
    if isinstance(value, Array):
        sides = ", ".join(map(shown, value.shape[:8]))
        return f"an array of {printable(str(value.dtype), 16)}, shape ({sides})"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else f"a {type(value).__name__}"


def in_words(error: Exception) -> str:
    """Return an exception of somebody's own code as one short line: its words can quote a reply."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - an exception of a foreign class; its name must do
        words = ""
    return printable(f"{type(error).__name__}: {words}" if words else type(error).__name__)


def where(error: Exception) -> str:
    """Return where an exception was raised, without its own words: these can quote a reply."""
    return "".join(traceback.format_tb(error.__traceback__, limit=-8)).rstrip()
