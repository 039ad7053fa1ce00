"""Client metrics made fit for Flower's aggregation functions, which raise unless all records look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flwr.app import MetricRecord, RecordDict

from flwr_robustcomp.strategies.screening import Metrics

__all__ = ["alike_contents"]


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
    forms = [
        {(key, len(value) if isinstance(value, list) else None) for key, value in one.items() if key != weight_key}
        for one in metrics
    ]
    counts = Counter(form for one in forms for form in one)
    agreed = {form for form, count in counts.items() if 2 * count > len(metrics)}
    keys = sorted(key for key, _ in agreed)
    return [
        RecordDict({"metrics": MetricRecord({weight_key: weight, **{key: one[key] for key in keys}})})
        if agreed and agreed <= form
        else None
        for one, form, weight in zip(metrics, forms, weights, strict=True)
    ]
