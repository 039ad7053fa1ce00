"""Metrics of Flower's old API that differ from client to client reach the strategy alike."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.server.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.strategies.old_api.alike_metrics import alike
from tests.strategies.old_api.old_rounds import Mine, asked, average, evaluated, moved, options, packed, told, wrapped


@pytest.mark.parametrize("lie", [{}, {"accuracy": "high"}, {"accuracy": float("nan")}, {"accuracy": b"1"}])
def test_a_missing_metric_does_not_end_the_run(lie: dict[str, Any]) -> None:
    strategy = wrapped(Mine(**options(fit_metrics_aggregation_fn=average)))
    proxies = asked(strategy)
    results = [(proxies[0], packed(5.0, **lie)), *((proxy, packed(1.0, accuracy=0.5)) for proxy in proxies[1:])]
    result, metrics = strategy.aggregate_fit(1, results, [])
    assert metrics["accuracy"] == 0.5 and moved(result) == pytest.approx(2)
    assert strategy.rounds == 1  # the first call left nothing behind


def test_an_evaluation_without_the_metric_does_not_end_the_run() -> None:
    everybody = options(min_evaluate_clients=4, evaluate_metrics_aggregation_fn=average)
    loss, metrics = evaluated(wrapped(FedAvg(**everybody)), [told(2.0, accuracy=0.5)] * 3 + [told(4.0)])
    assert loss == 2.5 and metrics["accuracy"] == 0.5


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "c"]),
            st.one_of(st.integers(0, 9), st.booleans(), st.text(max_size=2), st.binary(max_size=2)),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_metrics_are_made_alike(metrics: list[dict[str, Any]]) -> None:
    result = alike(metrics)
    if result is None:
        assert all({k: type(v) for k, v in one.items()} == {k: type(v) for k, v in metrics[0].items()} for one in metrics)
        return
    assert len({tuple((name, type(value)) for name, value in one.items()) for one in result}) == 1
    for name, value in result[0].items():
        reporting = [one[name] for one in metrics if type(one.get(name)) is type(value)]
        assert 2 * len(reporting) > len(metrics)
        for one, own in zip(metrics, result, strict=True):
            assert own[name] == one[name] if type(one.get(name)) is type(value) else own[name] in reporting
