"""What comes from clients of Flower's old API, hostile or missing: it costs its sender, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Error
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status
from flwr.server.client_manager import SimpleClientManager
from flwr.server.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import L1Sign
from flwr_robustcomp.errors import ConfigurationError, QuorumError
from flwr_robustcomp.strategies import NormThreshold, Policy
from flwr_robustcomp.strategies.old_api.decompressed_fit import DecompressedFit
from flwr_robustcomp.strategies.old_api.strategy import OldStrategy
from tests.old_apps import MODEL, client_app, parameters, run
from tests.strategies.old_api.old_rounds import (
    HOSTILE,
    OK,
    Mine,
    Proxy,
    asked,
    average,
    evaluated,
    manager,
    moved,
    options,
    packed,
    told,
    wrapped,
)


class NodeLess(Proxy):
    """One of `start_server`."""

    def __init__(self) -> None:
        super().__init__(5)
        del self.node_id


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_reply_costs_itself(name: str) -> None:
    strategy = wrapped(Mine(**options()))
    proxies = asked(strategy)
    results = [(proxies[0], HOSTILE[name]), *((proxy, packed(float(proxy.node_id))) for proxy in proxies[1:])]
    result, metrics = strategy.aggregate_fit(1, results, [])
    assert moved(result) == pytest.approx(3, rel=1e-6)
    report = strategy.reports[-1]
    assert report.kept == (2, 3, 4) and [one.node_id for one in report.rejected] == [1]
    assert metrics["robustcomp.rejected"] == 1 and len(strategy.failures) == 1


@given(
    st.lists(st.binary(max_size=12), max_size=4),
    st.sampled_from(["", "numpy.ndarray", "robustcomp/l1-sign/1", "robustcomp//1", "robustcomp/x/y/z"]),
    st.one_of(st.integers(-(2**63), 2**63), st.floats()),
    st.dictionaries(
        st.one_of(st.text(max_size=5), st.sampled_from(["num-examples", "robustcomp.reported.norm-2", "robustcomp.delta"])),
        st.one_of(st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.booleans()),
        max_size=3,
    ),
)
def test_no_reply_raises(tensors: list[bytes], kind: str, examples: Any, metrics: dict[str, Any]) -> None:
    foreign = FitRes(OK, Parameters(tensors, kind), examples, metrics)
    right = FitRes(OK, packed(1.0).parameters, examples, metrics)
    for strategy in (wrapped(), OldStrategy(NormThreshold(compressor=L1Sign(), trim=0, norm="reported"))):
        proxies = asked(strategy)
        strategy.aggregate_fit(1, [(proxies[0], foreign), (proxies[1], right), (proxies[2], packed(1.0))], [])
        assert strategy.reports[-1].rejected


def test_failures_are_rejections_of_the_nodes_that_are_missing() -> None:
    strategy = wrapped(policy=Policy(quarantine_after=1))
    proxies = asked(strategy)
    not_ok = FitRes(Status(Code.FIT_NOT_IMPLEMENTED, "not me"), Parameters([], ""), 0, {})
    strategy.aggregate_fit(1, [(proxy, packed(1.0)) for proxy in proxies[:2]], [(proxies[2], not_ok), ValueError("lost")])
    assert [(one.node_id, one.reason, one.detail) for one in strategy.reports[-1].rejected] == [
        (3, "error-reply", "not me"),
        (4, "error-reply", "lost"),
    ]
    # Both are left out now, and a sample of two has no need of them; of three it has.
    clients = manager(4)
    inner = strategy.strategy
    assert isinstance(inner, FedAvg)
    inner.min_fit_clients = 2
    assert {proxy.node_id for proxy, _ in strategy.configure_fit(2, parameters(MODEL), clients)} == {1, 2}
    inner.min_fit_clients = 3
    assert {proxy.node_id for proxy, _ in strategy.configure_fit(2, parameters(MODEL), clients)} > {1, 2}


def test_no_reply_at_all_ends_with_patience() -> None:
    strategy = wrapped(policy=Policy(patience=2))
    for round_ in (1, 2):
        asked(strategy, round_=round_)
        assert strategy.aggregate_fit(round_, [], [ValueError("lost")])[0] is None
    assert strategy.reports[-1].skipped == "no reply was accepted"
    with pytest.raises(QuorumError):
        asked(strategy, round_=3)


def test_clients_without_the_mod_are_one_configurations_fault() -> None:
    with pytest.raises(ConfigurationError, match="List CompressionMod"):
        run(client_app(), lambda: DecompressedFit(FedAvg(**options()), compressor=L1Sign()))


@pytest.mark.parametrize("held", [False, True])
def test_a_fault_of_all_clients_apps_is_told(held: bool) -> None:
    text = "<class 'RuntimeError'>:<'no data here'>"
    told = Exception(Error(2, text)) if held else ValueError(f"Message contains an Error (reason: {text}). It originated ...")
    strategy = wrapped()
    asked(strategy)
    strategy.aggregate_fit(1, [], [told] * 4)
    with pytest.raises(ConfigurationError, match="no data here"):
        strategy.configure_evaluate(1, parameters(MODEL), manager(4))


@pytest.mark.parametrize(
    "lie",
    [
        told(float("nan"), accuracy=0.5),
        told(1.0, 0, accuracy=0.5),
        told(1.0, 2**60),
        told([1.0]),
        told(1.0, accuracy="x" * 2_000_000),
    ],
)
def test_a_hostile_evaluation_costs_itself(lie: EvaluateRes) -> None:
    everybody = options(min_evaluate_clients=4, evaluate_metrics_aggregation_fn=average)
    loss, metrics = evaluated(wrapped(FedAvg(**everybody)), [told(2.0, accuracy=0.5)] * 3 + [lie])
    assert loss == 2.0 and metrics["accuracy"] == 0.5 and metrics["robustcomp.evaluated"] == 3


def test_start_server_is_refused_in_one_sentence() -> None:
    clients = SimpleClientManager()
    clients.register(NodeLess())
    with pytest.raises(ConfigurationError, match="run the app with `flwr run`"):
        wrapped(FedAvg(**{**options(), "min_fit_clients": 1, "min_available_clients": 1})).configure_fit(
            1, parameters(MODEL), clients
        )
