"""Strategies of Flower's old API over packed replies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.common import FitIns, Parameters
from flwr.server.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    Krum,
    Strategy,
)
from flwr.serverapp.strategy import FedAvg as NewFedAvg

from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.strategies.old_api.decompressed_fit import DecompressedFit
from flwr_robustcomp.strategies.old_api.strategy import OldStrategy
from tests.old_apps import MODEL, Client, client_app, parameters, run
from tests.strategies.old_api.old_rounds import (
    HOSTILE,
    OURS,
    Mine,
    asked,
    average,
    manager,
    moved,
    options,
    packed,
    packing,
    wrapped,
)

INNER: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: FedAvg(**options()),
    "FedAvg, not in place": lambda: FedAvg(**options(inplace=False)),
    "FedProx": lambda: FedProx(**options(), proximal_mu=0.1),
    "FedMedian": lambda: FedMedian(**options()),
    "FedTrimmedAvg": lambda: FedTrimmedAvg(**options(), beta=0.25),
    "FedAvgM": lambda: FedAvgM(**options(), server_learning_rate=0.5, server_momentum=0.9),
    "FedAdam": lambda: FedAdam(**options(), eta=0.1),
    "Krum": lambda: Krum(**options(), num_malicious_clients=1, num_clients_to_keep=2),
    "Mine": lambda: Mine(**options()),
    "DP": lambda: DifferentialPrivacyServerSideFixedClipping(FedAvg(**options()), 0.0, 1.5, 4),
}


@pytest.mark.parametrize("make", INNER.values(), ids=INNER)
def test_without_loss_the_inner_strategy_gives_what_it_gives_alone(make: Callable[[], Strategy]) -> None:
    alone = run(client_app(), make, rounds=3)
    wrapped = run(client_app([packing(Identity())]), lambda: DecompressedFit(make(), compressor=Identity()), rounds=3)
    assert len(alone.models) == len(wrapped.models) == 4
    for expected, got in zip(alone.models, wrapped.models, strict=True):
        for a, b in zip(expected, got, strict=True):
            assert b.dtype == np.float32 and np.allclose(a, b, atol=1e-5)  # FedAdam alone widens the model to float64
    assert [len(report.kept) for report in wrapped.reports] == [4, 4, 4]


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [L1Sign(), Drive(), TopK(ratio=0.5)], ids=repr)
def test_with_loss_error_feedback_comes_near(compressor: Compressor, granularity: Any) -> None:
    mod = packing(compressor, error_feedback=True, granularity=granularity)
    wrapped = run(
        client_app([mod]),
        lambda: DecompressedFit(FedAvg(**options()), compressor=compressor, granularity=granularity),
        rounds=12,
    )
    assert [len(report.kept) for report in wrapped.reports] == [4] * 12
    assert not any(report.rejected for report in wrapped.reports)
    assert np.abs(wrapped.models[-1][0] - 5).max() < np.abs(MODEL[0] - 5).max() / 2  # 5 is the weighted mean of the targets


def test_metrics_reach_it_as_they_came() -> None:
    strategy = wrapped(Mine(**options()))
    proxies = asked(strategy)
    told: dict[str, Any] = {"loss": 0.5, "who": "me", "ok": True, "raw": b"1", "auc": float("nan"), "robustcomp.delta": 0.5}
    strategy.aggregate_fit(1, [(proxy, packed(1.0, **told)) for proxy in proxies], [])
    assert strategy.results == [(node, 2, {"loss": 0.5, "who": "me", "ok": True, "raw": b"1"}) for node in (1, 2, 3, 4)]
    assert strategy.reports[-1].delta == 0.5


def test_a_fault_of_its_own_is_raised() -> None:
    strategy = wrapped(FedAvg(**options(fit_metrics_aggregation_fn=average)))
    proxies = asked(strategy)
    with pytest.raises(KeyError, match="accuracy"):
        strategy.aggregate_fit(1, [(proxy, packed(1.0, loss=1.0)) for proxy in proxies], [])


def test_rejected_replies_are_failures_to_it() -> None:
    strategy = wrapped(FedAvg(**options(accept_failures=False)))
    proxies = asked(strategy)
    good = [(proxy, packed(1.0)) for proxy in proxies[1:]]
    assert strategy.aggregate_fit(1, [(proxies[0], HOSTILE["short"]), *good], [])[0] is None
    assert strategy.reports[-1].skipped == "the inner strategy gave no result"
    asked(strategy, round_=2)
    assert strategy.aggregate_fit(2, [(proxies[0], packed(1.0)), *good], [])[0] is not None


def test_a_result_that_is_not_finite_is_not_taken_and_leaves_nothing_behind() -> None:
    class Diverges(FedAvg):
        rounds = 0

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            self.rounds += 1
            return parameters([np.full_like(array, np.inf) for array in MODEL]), {}

    strategy = wrapped(Diverges(**options()))
    proxies = asked(strategy)
    assert strategy.aggregate_fit(1, [(proxy, packed(1.0)) for proxy in proxies], [])[0] is None
    assert strategy.reports[-1].skipped == "the inner strategy's result is not finite" and strategy.rounds == 0


def test_means_of_counters_stay_integers() -> None:
    model = [np.zeros(3, np.float32), np.array(7, np.int64)]

    class Counts(Client):
        def fit(self, parameters: Any, config: Any) -> Any:
            assert parameters[1].dtype == np.int64
            return [parameters[0] + 1, np.array(int(parameters[1]) + 3)], 1 + self.partition, {}

    app = client_app([packing(Identity())], lambda partition: Counts(partition, {}))
    ran = run(
        app,
        lambda: DecompressedFit(FedAvg(**options(initial_parameters=parameters(model), inplace=False)), compressor=Identity()),
    )
    assert [int(model[1]) for model in ran.models] == [7, 10, 13]
    assert [len(report.kept) for report in ran.reports] == [4, 4]


def test_a_model_of_another_form_is_taken_as_it_is() -> None:
    class Grows(FedAvg):
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            return parameters([*MODEL, np.ones(2)]), {}

    strategy = wrapped(Grows(**options()))
    proxies = asked(strategy)
    result, _ = strategy.aggregate_fit(1, [(proxy, packed(1.0)) for proxy in proxies], [])
    assert result is not None and len(result.tensors) == 3


def test_clients_that_get_different_models_are_refused() -> None:
    class Personal(FedAvg):
        def configure_fit(self, server_round: int, parameters_: Parameters, client_manager: Any) -> Any:
            pairs = super().configure_fit(server_round, parameters_, client_manager)
            return [(proxy, FitIns(parameters([array + proxy.node_id for array in MODEL]), ins.config)) for proxy, ins in pairs]

    with pytest.raises(ConfigurationError, match="configure_fit must send one model to all clients"):
        asked(wrapped(Personal(**options())))


def test_nobody_sampled_is_nobody_asked() -> None:
    class Rests(FedAvg):
        def configure_fit(self, *args: Any, **more: Any) -> Any:
            return []

    assert wrapped(Rests(**options())).configure_fit(1, parameters(MODEL), manager(4)) == []


def test_attributes_are_the_inner_strategys() -> None:
    strategy = wrapped(Mine(**options()))
    assert strategy.min_fit_clients == 4 and strategy.rounds == 0
    with pytest.raises(AttributeError):
        strategy.no_such_thing  # noqa: B018
    assert copy.deepcopy(strategy).min_fit_clients == 4
    ours = OldStrategy(OURS["norm-threshold"]())
    assert ours.reports == [] and copy.copy(ours).trim == 1


def test_each_adapter_names_the_other() -> None:
    with pytest.raises(ConfigurationError, match=r"strategy must be one of flwr\.server\.strategy \(Decompressed is for"):
        DecompressedFit(NewFedAvg(), compressor=L1Sign())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"strategy must be a strategy of flwr_robustcomp \(DecompressedFit is for"):
        OldStrategy(FedAvg())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="compressor must be a Compressor or a Choice"):
        DecompressedFit(FedAvg(), compressor="drive")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="step_size"):
        DecompressedFit(FedAvg(), compressor=L1Sign(), step_size=0.0)


def test_a_strategy_that_raises_for_too_few_replies_skips_the_round() -> None:
    inner = Bulyan(**{**options(), "min_fit_clients": 7, "min_available_clients": 7}, num_malicious_clients=1, to_keep=0)
    strategy = wrapped(inner)
    proxies = asked(strategy, 7)
    good = [(proxy, packed(1.0 + proxy.node_id / 100)) for proxy in proxies]
    assert moved(strategy.aggregate_fit(1, good, [])[0]) == pytest.approx(1.04, abs=0.03)
    asked(strategy, 7, round_=2)
    assert strategy.aggregate_fit(2, [(proxies[0], HOSTILE["short"]), *good[1:]], [])[0] is None
    assert "the inner strategy raised ValueError" in str(strategy.reports[-1].skipped)
    asked(strategy, 7, round_=3)
    with pytest.raises(ValueError, match="Bulyan"):  # seven are too few for two liars, whatever the clients do
        inner.num_malicious_clients = 2
        strategy.aggregate_fit(3, good, [])
