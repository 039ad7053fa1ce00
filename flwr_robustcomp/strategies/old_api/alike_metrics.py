"""Calling a strategy of the old API so that no client's metrics end the run.

Aggregation functions of the user's own expect the same metrics of every client, and raise where one leaves them out.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from flwr_robustcomp.flower import LOG, ClientProxy, OldApiStrategy, Scalar

__all__ = ["aggregated", "alike", "attributes_of", "restore"]


def aggregated(
    strategy: OldApiStrategy,
    method: Literal["aggregate_evaluate", "aggregate_fit"],
    server_round: int,
    results: Sequence[tuple[ClientProxy, Any]],
    failures: Sequence[Any],
) -> tuple[Any, dict[str, Scalar]]:
    """Let a strategy aggregate; if it raises where the clients' metrics differ in kind, once more with those of most clients.

    Parameters
    ----------
    strategy : Strategy
        Of the old API. Before the second call its attributes are what they were before the first.
    method : {"aggregate_fit", "aggregate_evaluate"}
        What to call.
    server_round, results, failures
        What it gets.

    Raises
    ------
    Exception
        The strategy's own, where all clients have the same metrics: these are not the reason then.
    """
    before = attributes_of(strategy)
    aggregate = getattr(strategy, method)
    try:
        first: tuple[Any, dict[str, Scalar]] = aggregate(server_round, list(results), list(failures))
        return first
    except Exception as error:
        metrics = alike([result.metrics for _, result in results])
        if metrics is None:
            raise
        name = type(strategy).__name__
        LOG.warning("%s: %s raised %r on metrics that differ; called again with those that most report", method, name, error)
    restore(before)
    like = [(proxy, replace(result, metrics=own)) for (proxy, result), own in zip(results, metrics, strict=True)]
    second: tuple[Any, dict[str, Scalar]] = aggregate(server_round, like, list(failures))
    return second


def alike(metrics: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Scalar]] | None:
    """Return the metrics that most clients report, for every client.

    Parameters
    ----------
    metrics : sequence of mapping, m of them
        Numbers are finite.

    Returns
    -------
    list of dict, or None
        A metric counts where more than half of the clients report it as one kind of value: number, text, bytes or truth value.
        A client that lacks it gets the lower median of those who have it; others of its metrics are left out. None if all
        clients are alike as they are.

    Examples
    --------
    >>> alike([{"accuracy": 0.5}, {"accuracy": 0.7}, {"name": "me"}])
    [{'accuracy': 0.5}, {'accuracy': 0.7}, {'accuracy': 0.5}]
    >>> alike([{"accuracy": 0.5}, {"accuracy": 1}]) is None
    True
    """
    forms = [{(name, _kind(value)) for name, value in one.items()} for one in metrics]
    counts = Counter(form for own in forms for form in own)
    agreed = sorted(form for form, count in counts.items() if 2 * count > len(metrics))
    if all(own == set(agreed) for own in forms):
        return None
    values: dict[str, Any] = {
        form[0]: statistics.median_low([one[form[0]] for one, own in zip(metrics, forms, strict=True) if form in own])
        for form in agreed
    }
    return [
        {name: one[name] if (name, kind) in own else values[name] for name, kind in agreed}
        for one, own in zip(metrics, forms, strict=True)
    ]


def _kind(value: Scalar) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def attributes_of(strategy: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Return the attributes of a strategy and of the strategies inside of it, for `restore`."""
    found: list[tuple[Any, dict[str, Any]]] = []
    while isinstance(strategy, OldApiStrategy) and all(strategy is not known for known, _ in found):
        found.append((strategy, dict(vars(strategy))))
        strategy = vars(strategy).get("strategy")
    return found


def restore(before: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    """Give strategies back the attributes that `attributes_of` returned; what is inside these is as it is."""
    for strategy, attributes in before:
        vars(strategy).clear()
        vars(strategy).update(attributes)
