"""Client metrics made fit for Flower's aggregation functions, which raise unless all records look alike."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from flwr.app import MetricRecord, RecordDict

from flwr_robustcomp.strategies.replies import Metrics

__all__ = ["alike_contents", "filled_contents"]


def alike_contents(metrics: Sequence[Metrics], weights: Sequence[int | float], weight_key: str) -> list[RecordDict | None]:
    """Return a RecordDict for each client, all with the same keys, for a Flower metrics aggregation function.

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
    list of RecordDict or None
        m of them. A metric that more than half of the clients have is agreed: a minority can neither add metrics of its own
        nor suppress everybody's. None for a client that lacks an agreed metric, and for all if none is agreed.
    """
    agreed, forms = _agreed(metrics, weight_key)
    keys = sorted(key for key, _ in agreed)
    return [
        RecordDict({"metrics": MetricRecord({weight_key: weight, **{key: one[key] for key in keys}})})
        if agreed and agreed <= form
        else None
        for one, form, weight in zip(metrics, forms, weights, strict=True)
    ]


def filled_contents(metrics: Sequence[Metrics], weights: Sequence[int | float], weight_key: str) -> list[RecordDict]:
    """Return what `alike_contents` does for every client: one that lacks an agreed metric gets the median of those who have it.

    For strategies that take a client's arrays and metrics together: nobody may be left out for its metrics, and nobody may
    hide everybody's by leaving one out. With no agreed metric only the weights are left.
    """
    agreed, forms = _agreed(metrics, weight_key)
    middle = {
        form: _median_value([one[form[0]] for one, own in zip(metrics, forms, strict=True) if form in own]) for form in agreed
    }
    return [
        RecordDict(
            {
                "metrics": MetricRecord(
                    {weight_key: weight, **{f[0]: one[f[0]] if f in own else middle[f] for f in sorted(agreed, key=_key)}}
                )
            }
        )
        for one, own, weight in zip(metrics, forms, weights, strict=True)
    ]


_Form = tuple[str, int | None]
"""The key of a metric, and its length if it is a list."""


def _key(form: _Form) -> str:
    return form[0]


def _agreed(metrics: Sequence[Metrics], weight_key: str) -> tuple[set[_Form], list[set[_Form]]]:
    """Return the forms that more than half of the clients have, and the forms that each has."""
    forms = [
        {(key, len(value) if isinstance(value, list) else None) for key, value in one.items() if key != weight_key}
        for one in metrics
    ]
    counts = Counter(form for one in forms for form in one)
    return {form for form, count in counts.items() if 2 * count > len(metrics)}, forms


def _median_value(values: Sequence[Any]) -> Any:
    """Return the lower median, entry by entry for lists of one length."""
    if isinstance(values[0], list):
        return [statistics.median_low(column) for column in zip(*values, strict=True)]
    return statistics.median_low(values)
