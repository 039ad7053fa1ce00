"""Servers of Flower's old API: their strategies over packed replies, and ours in the place of theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from flwr.app import Error
from flwr.common import Code, EvaluateRes, FitIns, FitRes, Parameters, Status, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
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
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import Settings, from_arrays, to_arrays, wire
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.clients.old_api import old_client
from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError, QuorumError
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Decompressed, NormThreshold, Policy, RobustCompressed
from flwr_robustcomp.strategies.alike_metrics import alike
from flwr_robustcomp.strategies.decompressed_fit import DecompressedFit
from flwr_robustcomp.strategies.old_strategy import OldStrategy
from tests.old_apps import MODEL, Client, client_app, in_old_api, parameters, run

INITIAL: dict[str, Any] = {"initial_parameters": None, "min_available_clients": 4, "min_fit_clients": 4}


class Mine(FedAvg):
    """Somebody's own: counts rounds, keeps the best, doubles the step."""

    rounds = 0

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.rounds += 1
        self.results = [(proxy.node_id, res.num_examples, res.metrics) for proxy, res in results]
        self.failures = failures
        return super().aggregate_fit(server_round, results, failures)


def options(**more: Any) -> dict[str, Any]:
    return {**INITIAL, "initial_parameters": parameters(MODEL), **more}


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


def packing(compressor: Compressor, **more: Any) -> Any:
    return in_old_api(CompressionMod(compressor, **more))


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


OURS: dict[str, Callable[[], Any]] = {
    "norm-threshold": lambda: NormThreshold(compressor=L1Sign(), trim=1, min_train_nodes=4, min_available_nodes=4),
    "robust-compressed": lambda: RobustCompressed(
        compressor=L1Sign(), trim=1, filters="norm", min_train_nodes=4, min_available_nodes=4
    ),
    "reported norms": lambda: NormThreshold(
        compressor=L1Sign(), trim=1, norm="reported", min_train_nodes=4, min_available_nodes=4
    ),
    "Decompressed": lambda: Decompressed(NewFedAvg(min_train_nodes=4, min_available_nodes=4), compressor=L1Sign()),
}


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_ours_give_in_the_old_api_what_they_give_in_the_new_one(make: Callable[[], Any]) -> None:
    mod = CompressionMod(L1Sign(), report_norm=2)
    old = run(
        client_app([in_old_api(mod)]), lambda: OldStrategy(make(), initial_parameters=parameters(MODEL)), rounds=3, seed=1
    )
    new = make()
    named = to_arrays({str(i): torch.from_numpy(array) for i, array in enumerate(MODEL)})
    with InProcessGrid(client_app([mod, old_client]), 4, run_config={"seed": 1}) as grid:
        result = new.start(grid, named, num_rounds=3)
    for name, tensor in from_arrays(result.arrays).items():
        assert np.array_equal(tensor.numpy(), old.models[-1][int(name)])
    for a, b in zip(old.reports, new.reports, strict=True):
        assert (a.kept, a.trimmed, a.bytes_received) == (b.kept, b.trimmed, b.bytes_received)


def test_settings_build_it() -> None:
    config = {
        "robustcomp.compressor": "l1-sign",
        "robustcomp.strategy.name": "norm-threshold",
        "robustcomp.strategy.trim": 1,
    }
    settings = Settings.from_run_config(config)
    strategy = OldStrategy(
        settings.make_strategy(min_train_nodes=4, min_available_nodes=4), initial_parameters=parameters(MODEL)
    )
    ran = run(client_app([in_old_api(settings.make_mod())]), lambda: strategy)
    assert [len(report.kept) for report in ran.reports] == [3, 3]


def test_config_reaches_old_clients_without_a_key_of_ours() -> None:
    def keys(config_fn: Any) -> str:
        strategy = OldStrategy(OURS["norm-threshold"](), on_fit_config_fn=config_fn)
        ((_, ins), *_rest) = strategy.configure_fit(3, parameters(MODEL), manager(4))
        assert ins.parameters == parameters(MODEL)
        return ",".join(f"{name}={value}" for name, value in ins.config.items())

    assert keys(None) == ""
    assert keys(lambda round_: {"lr": 0.5, "round": round_}) == "lr=0.5,round=3"
    assert keys(lambda round_: {"server-round": round_}) == "server-round=3"


def test_evaluation_on_the_server() -> None:
    seen: list[Any] = []
    strategy = OldStrategy(OURS["norm-threshold"](), evaluate_fn=lambda *args: seen.append(args) or (1.0, {"a": 1}))
    assert strategy.evaluate(2, parameters(MODEL)) == (1.0, {"a": 1})
    assert seen[0][0] == 2 and np.array_equal(seen[0][1][0], MODEL[0]) and seen[0][2] == {}
    assert OldStrategy(OURS["norm-threshold"]()).evaluate(2, parameters(MODEL)) is None


# -- replies made by hand -------------------------------------------------------------------------------------------------


class Proxy(ClientProxy):
    """A client that is only ever named."""

    def __init__(self, node: int) -> None:
        super().__init__(str(node))
        self.node_id = node

    def _no(self, *args: Any, **more: Any) -> Any:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _no


class NodeLess(Proxy):
    """One of `start_server`."""

    def __init__(self) -> None:
        super().__init__(5)
        del self.node_id


def manager(count: int) -> SimpleClientManager:
    clients = SimpleClientManager()
    for node in range(1, count + 1):
        clients.register(Proxy(node))
    return clients


OK = Status(Code.OK, "")


def packed(x: float, **metrics: Any) -> FitRes:
    """Return the reply that packs an update of equal entries."""
    compressor = L1Sign()
    payload = compressor.compress(torch.full((16,), x))
    return FitRes(OK, Parameters([wire.packed_fields(payload, compressor)[3]], "robustcomp/l1-sign/1"), 2, metrics)


def asked(strategy: Strategy, count: int = 4, round_: int = 1) -> list[ClientProxy]:
    """Ask all of the nodes 1, 2, ...; return them in this order."""
    pairs = strategy.configure_fit(round_, parameters(MODEL), manager(count))
    return sorted((proxy for proxy, _ in pairs), key=lambda proxy: proxy.node_id)


def wrapped(inner: Strategy | None = None, **more: Any) -> DecompressedFit:
    return DecompressedFit(inner or FedAvg(**options()), compressor=L1Sign(), **more)


def moved(result: Parameters | None) -> float:
    assert result is not None
    steps = [w - v for w, v in zip(MODEL, parameters_to_ndarrays(result), strict=True)]
    return float(np.concatenate([step.ravel() for step in steps]).mean())


HOSTILE: dict[str, FitRes] = {
    "dense": FitRes(OK, parameters(MODEL), 2, {}),
    "one dense array": FitRes(OK, parameters([MODEL[0]]), 2, {}),
    "short": FitRes(OK, Parameters([b"\x00\x00"], "robustcomp/l1-sign/1"), 2, {}),
    "another codec": FitRes(OK, Parameters(packed(1.0).parameters.tensors, "robustcomp/drive/1"), 2, {}),
    "nothing": FitRes(OK, Parameters([], ""), 2, {}),
    "NaN scale": FitRes(OK, Parameters([b"\xff" * len(packed(1.0).parameters.tensors[0])], "robustcomp/l1-sign/1"), 2, {}),
    "no examples": FitRes(OK, packed(1.0).parameters, 0, {}),
    "too many examples": FitRes(OK, packed(1.0).parameters, 2**60, {}),
    "a list of examples": FitRes(OK, packed(1.0).parameters, cast(int, [1]), {}),
    "our metric": FitRes(OK, packed(1.0).parameters, 2, {"robustcomp.kept": 9}),
    "a megabyte of text": FitRes(OK, packed(1.0).parameters, 2, {"note": "x" * (2 << 20)}),
}


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
    strategy.strategy.min_fit_clients = 2  # type: ignore[attr-defined]
    assert {proxy.node_id for proxy, _ in strategy.configure_fit(2, parameters(MODEL), clients)} == {1, 2}
    strategy.strategy.min_fit_clients = 3  # type: ignore[attr-defined]
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


# -- what the inner strategy sees -----------------------------------------------------------------------------------------


def average(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Return what everybody's weighted average returns."""
    total = sum(n for n, _ in metrics)
    return {"accuracy": sum(n * m["accuracy"] for n, m in metrics) / total}


def test_metrics_reach_it_as_they_came() -> None:
    strategy = wrapped(Mine(**options()))
    proxies = asked(strategy)
    told: dict[str, Any] = {"loss": 0.5, "who": "me", "ok": True, "raw": b"1", "auc": float("nan"), "robustcomp.delta": 0.5}
    strategy.aggregate_fit(1, [(proxy, packed(1.0, **told)) for proxy in proxies], [])
    assert strategy.results == [(node, 2, {"loss": 0.5, "who": "me", "ok": True, "raw": b"1"}) for node in (1, 2, 3, 4)]
    assert strategy.reports[-1].delta == 0.5


@pytest.mark.parametrize("lie", [{}, {"accuracy": "high"}, {"accuracy": float("nan")}, {"accuracy": b"1"}])
def test_a_missing_metric_does_not_end_the_run(lie: dict[str, Any]) -> None:
    strategy = wrapped(Mine(**options(fit_metrics_aggregation_fn=average)))
    proxies = asked(strategy)
    results = [(proxies[0], packed(5.0, **lie)), *((proxy, packed(1.0, accuracy=0.5)) for proxy in proxies[1:])]
    result, metrics = strategy.aggregate_fit(1, results, [])
    assert metrics["accuracy"] == 0.5 and moved(result) == pytest.approx(2)
    assert strategy.rounds == 1  # the first call left nothing behind


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
        def configure_fit(self, server_round: int, parameters_: Parameters, client_manager: Any) -> Any:  # type: ignore[override]
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


# -- evaluation -----------------------------------------------------------------------------------------------------------


def evaluated(strategy: Strategy, results: Sequence[EvaluateRes]) -> tuple[Any, dict[str, Any]]:
    """Let the nodes 1, 2, ... reply to a round's evaluation."""
    pairs = strategy.configure_evaluate(1, parameters(MODEL), manager(len(results)))
    proxies = sorted((proxy for proxy, _ in pairs), key=lambda proxy: proxy.node_id)
    return strategy.aggregate_evaluate(1, list(zip(proxies, results, strict=True)), [])


def told(loss: Any, examples: Any = 2, **metrics: Any) -> EvaluateRes:
    return EvaluateRes(OK, loss, examples, metrics)


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


def test_an_evaluation_without_the_metric_does_not_end_the_run() -> None:
    everybody = options(min_evaluate_clients=4, evaluate_metrics_aggregation_fn=average)
    loss, metrics = evaluated(wrapped(FedAvg(**everybody)), [told(2.0, accuracy=0.5)] * 3 + [told(4.0)])
    assert loss == 2.5 and metrics["accuracy"] == 0.5


def test_ours_take_medians() -> None:
    strategy = OldStrategy(NormThreshold(compressor=L1Sign(), trim=1, min_evaluate_nodes=4, min_available_nodes=4))
    loss, metrics = evaluated(strategy, [told(2.0, accuracy=0.5)] * 3 + [told(1e9, 2**50, accuracy=0.0)])
    assert loss == 2.0 and metrics["accuracy"] == 0.5


# -- construction ---------------------------------------------------------------------------------------------------------


def test_each_adapter_names_the_other() -> None:
    with pytest.raises(ConfigurationError, match=r"strategy must be one of flwr\.server\.strategy \(Decompressed is for"):
        DecompressedFit(NewFedAvg(), compressor=L1Sign())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"strategy must be a strategy of flwr_robustcomp \(DecompressedFit is for"):
        OldStrategy(FedAvg())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="compressor must be a Compressor or a Choice"):
        DecompressedFit(FedAvg(), compressor="drive")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="step_size"):
        DecompressedFit(FedAvg(), compressor=L1Sign(), step_size=0.0)


def test_start_server_is_refused_in_one_sentence() -> None:
    clients = SimpleClientManager()
    clients.register(NodeLess())
    with pytest.raises(ConfigurationError, match="run the app with `flwr run`"):
        wrapped(FedAvg(**{**options(), "min_fit_clients": 1, "min_available_clients": 1})).configure_fit(
            1, parameters(MODEL), clients
        )


def test_a_strategy_that_raises_for_too_few_replies_skips_the_round() -> None:
    strategy = wrapped(
        Bulyan(**{**options(), "min_fit_clients": 7, "min_available_clients": 7}, num_malicious_clients=1, to_keep=0)
    )
    proxies = asked(strategy, 7)
    good = [(proxy, packed(1.0 + proxy.node_id / 100)) for proxy in proxies]
    assert moved(strategy.aggregate_fit(1, good, [])[0]) == pytest.approx(1.04, abs=0.03)
    asked(strategy, 7, round_=2)
    assert strategy.aggregate_fit(2, [(proxies[0], HOSTILE["short"]), *good[1:]], [])[0] is None
    assert "the inner strategy raised ValueError" in str(strategy.reports[-1].skipped)
    asked(strategy, 7, round_=3)
    with pytest.raises(ValueError, match="Bulyan"):  # seven are too few for two liars, whatever the clients do
        strategy.strategy.num_malicious_clients = 2  # type: ignore[attr-defined]
        strategy.aggregate_fit(3, good, [])


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
