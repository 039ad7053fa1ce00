"""What a round says about its clients' metrics: of each one the median over those who report it, and how many these are."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import MetricRecord, RecordDict

from flwr_robustcomp.strategies.replies.common import RESERVED, Metrics

__all__ = ["TOLD", "filled_contents", "median_metrics", "medians", "summed_up"]

TOLD = f"{RESERVED}told."
"""Before a metric's name: the number of clients that its median is over."""

_Form = tuple[str, int | None]
"""The key of a metric, and its length if it is a list."""


def medians(metrics: Sequence[Metrics], weight_key: str) -> MetricRecord:
    """Return the median of each metric over the clients that report it, entry by entry for lists, and their number.

    Parameters
    ----------
    metrics : sequence of dict, m of them
        Screened metrics.
    weight_key : str
        Left out of the result and not used: a client that claims 2^53 examples counts once.

    Returns
    -------
    MetricRecord
        A metric counts where more than half of the m clients report it in one form, a number or a list of one length. It is
        the median over these n clients, and n stands under ``robustcomp.told.<name>``. Whoever lacks one metric, or has it
        in another form, counts for all others.

    Notes
    -----
    f liars with 2 f < m can neither add a metric nor suppress one that every honest client reports. While 2 f < n, the median
    lies within the range of the honest values: both middle values of an even n do, and so does their mean. A metric that some
    honest clients leave out has a smaller n, which is why n is told.
    """
    agreed, forms = _agreed(metrics, weight_key)
    result = MetricRecord()
    for form in sorted(agreed, key=_key):
        values = _of(form, metrics, forms)
        result[form[0]] = _median(values) if form[1] is None else [_median(column) for column in zip(*values, strict=True)]
        result[TOLD + form[0]] = len(values)
    return result


def median_metrics(contents: Sequence[RecordDict], weight_key: str) -> MetricRecord:
    """Return `medians` of the clients' first MetricRecords; a Flower metrics aggregation function.

    Parameters
    ----------
    contents : sequence of RecordDict, m of them
        Need not be alike.
    weight_key : str
        Left out of the result and not used.
    """
    return medians([dict(next(iter(content.metric_records.values()), {})) for content in contents], weight_key)


def summed_up(
    function: Callable[[list[RecordDict], str], MetricRecord],
    metrics: Sequence[Metrics],
    weights: Sequence[int | float],
    weight_key: str,
) -> MetricRecord:
    """Return what a metrics aggregation function makes of the clients' metrics, as a record of its own.

    `median_metrics` gets them as they are. Any other function gets `filled_contents`, for Flower's own raise unless all
    contents are alike; it is not called where no metric is agreed.
    """
    if function is median_metrics:
        return medians(metrics, weight_key)
    if not _agreed(metrics, weight_key)[0]:
        return MetricRecord()
    return MetricRecord(dict(function(filled_contents(metrics, weights, weight_key), weight_key)))


def filled_contents(metrics: Sequence[Metrics], weights: Sequence[int | float], weight_key: str) -> list[RecordDict]:
    """Return a RecordDict for each client, all with the same keys, for whatever of Flower's takes metrics.

    Parameters
    ----------
    metrics : sequence of dict, m of them
        Screened metrics.
    weights : sequence of float, m of them
        The weight of each client, chosen by the caller, written under ``weight_key``.
    weight_key : str
        The metric that Flower weights by.

    Returns
    -------
    list of RecordDict
        m of them, with the metrics that `medians` counts. A client that lacks one gets the lower median of those who have it:
        nobody is left out for its metrics, and nobody can hide everybody's by leaving one out. With no such metric only the
        weights are left.
    """
    agreed, forms = _agreed(metrics, weight_key)
    middle = {form: _middle(_of(form, metrics, forms)) for form in sorted(agreed, key=_key)}
    return [
        RecordDict(
            {
                "metrics": MetricRecord(
                    {weight_key: weight, **{f[0]: one[f[0]] if f in own else value for f, value in middle.items()}}
                )
            }
        )
        for one, own, weight in zip(metrics, forms, weights, strict=True)
    ]


def _key(form: _Form) -> str:
    return form[0]


def _of(form: _Form, metrics: Sequence[Metrics], forms: Sequence[set[_Form]]) -> list[Any]:
    """Return the values of a metric of those who report it in this form."""
    return [one[form[0]] for one, own in zip(metrics, forms, strict=True) if form in own]


def _agreed(metrics: Sequence[Metrics], weight_key: str) -> tuple[set[_Form], list[set[_Form]]]:
    """Return the forms that more than half of the clients have, and the forms that each has."""
    forms = [
        {(key, len(value) if isinstance(value, list) else None) for key, value in one.items() if key != weight_key}
        for one in metrics
    ]
    counts = Counter(form for one in forms for form in one)
    return {form for form, count in counts.items() if 2 * count > len(metrics)}, forms


def _median(values: Sequence[int | float]) -> float:
    low, high = float(statistics.median_low(values)), float(statistics.median_high(values))
    middle = (low + high) / 2
    return middle if math.isfinite(middle) else low / 2 + high / 2


def _middle(values: Sequence[Any]) -> Any:
    """Return the lower median, entry by entry for lists of one length: a value of the type that clients report."""
    if isinstance(values[0], list):
        return [statistics.median_low(column) for column in zip(*values, strict=True)]
    return statistics.median_low(values)
