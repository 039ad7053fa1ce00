"""One table of the run config settles both sides."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedTrimmedAvg, FedYogi, QFedAvg

from flwr_robustcomp import (
    ConfigurationError,
    Decompressed,
    Drive,
    L1Sign,
    NormThreshold,
    RobustCompressed,
    Settings,
    Sign,
    SignMajorityVote,
    TopK,
    TrustedRoot,
    configured_mod,
)
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED
from flwr_robustcomp.settings import STRATEGIES
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Adam, Momentum
from flwr_robustcomp.strategies.flower.builtin import FLOWER_STRATEGIES, NEED_CLIENTS
from flwr_robustcomp.wire import MODEL_ARRAY, stype_of
from tests.apps import app, gaussian_model, node, replied, request
from tests.optional import needs_byzfl

GOOD: dict[str, Any] = {
    "learning-rate": 0.1,
    "robustcomp.compressor": "l1-sign",
    "robustcomp.error-feedback": True,
    "robustcomp.strategy.name": "norm-threshold",
    "robustcomp.strategy.trim": 0.2,
}


def read(**changes: Any) -> Settings:
    """Read GOOD with some keys of the table changed; None removes one."""
    changed = {f"robustcomp.{name.replace('__', '.')}": value for name, value in changes.items()}
    return Settings.from_run_config({key: value for key, value in {**GOOD, **changed}.items() if value is not None})


def test_both_sides_are_built_from_one_table() -> None:
    settings = read()
    mod, strategy = settings.make_mod(), settings.make_strategy(fraction_train=0.25, min_train_nodes=3)
    assert isinstance(strategy, NormThreshold)
    assert mod.packing.compressor == strategy.packing.compressor == L1Sign()
    assert (mod.error_feedback, mod.packing.granularity, mod.report_norm) == (True, "model", None)
    assert (strategy.trim, strategy.fraction_train, strategy.min_train_nodes) == (0.2, 0.25, 3)


def test_parameters_go_where_they_belong() -> None:
    settings = read(compressor=None, compressor__name="top-k", compressor__ratio=0.25, granularity="array", reply="update")
    mod, strategy = settings.make_mod(), settings.make_strategy()
    assert isinstance(strategy, NormThreshold)
    assert mod.packing.compressor == strategy.packing.compressor == TopK(ratio=0.25)
    assert mod.packing.granularity == strategy.packing.granularity == "array"
    assert mod.reply == "update"


def test_arrays_that_travel_as_they_are_are_named_by_patterns() -> None:
    settings = read(uncompressed="*running_mean, head.*,")
    mod, strategy = settings.make_mod(), settings.make_strategy()
    assert mod.packing.uncompressed == strategy.packing.uncompressed == ("*running_mean", "head.*")
    assert read(uncompressed="").make_mod().packing.uncompressed == ()
    assert read().make_mod().packing.uncompressed == DEFAULT_UNCOMPRESSED


def test_the_server_can_take_a_step_of_its_own() -> None:
    settings = read(strategy__name="robust-compressed", step__name="momentum", step__beta=0.5)
    strategy = settings.make_strategy()
    assert isinstance(strategy, RobustCompressed) and strategy.step == Momentum(beta=0.5)
    strategy = read(strategy__name="robust-compressed", step="adam").make_strategy()
    assert isinstance(strategy, RobustCompressed) and strategy.step == Adam()
    with pytest.raises(
        ConfigurationError, match=r"robustcomp.step must be left out with the strategy 'norm-threshold', got 'adam'"
    ):
        read(step="adam")
    with pytest.raises(ConfigurationError, match=r"robustcomp.step must be one of adam, momentum, plain, got 'adan'"):
        read(strategy__name="robust-compressed", step="adan")


@pytest.mark.parametrize("key", ["robustcomp-compressor", "robustcomp_compressor", "Robustcomp.compressor"])
def test_a_key_beside_the_table_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="settings must be in the table robustcomp, as robustcomp"):
        Settings.from_run_config({key: "sign"})


def test_what_the_table_sets_is_not_given_twice() -> None:
    for name, value in {"trim": 1, "rule": "median"}.items():
        with pytest.raises(ConfigurationError, match=f"{name} is set by the table, as robustcomp.strategy.{name}"):
            read().make_strategy(**{name: value})


def test_the_recipe_can_expect_more_than_a_quarter() -> None:
    strategy = Settings.from_run_config({"robustcomp.strategy.trim": 0.3}).make_strategy()
    assert isinstance(strategy, RobustCompressed) and [one.trim for one in strategy.filters] == [0.3] * 3
    assert strategy.reach(20) == 1.0  # clipping drops nobody, so the others can have 0.3 of the nodes


@pytest.mark.parametrize("filters", ["fl-trust", "zeno", "norm-clipping+zeno"])
def test_a_table_may_name_filters_that_need_a_root_which_the_server_alone_has(filters: str) -> None:
    table = Settings.from_run_config({"robustcomp.strategy.filters": filters})
    assert table.make_mod().error_feedback
    strategy = table.make_strategy(root=TrustedRoot(lambda server_round, arrays: arrays, lambda server_round, arrays: 0.0))
    assert isinstance(strategy, RobustCompressed) and "+".join(one.name for one in strategy.filters) == filters
    with pytest.raises(ConfigurationError, match="filters must be one that works without"):
        table.make_strategy()


def test_algorithm_1_makes_clients_report_the_norm_that_the_server_sorts_by() -> None:
    settings = read(strategy__norm="reported", strategy__norm_order=1)
    strategy = settings.make_strategy()
    assert isinstance(strategy, NormThreshold)
    assert settings.make_mod().report_norm == strategy.norm_order == strategy.receiver.norm_order == 1


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_byzfl) if n == "byzfl" else n for n in STRATEGIES])
def test_every_strategy_can_be_named_and_takes_the_apps_options(name: str) -> None:
    reports: list[Any] = []
    compressor = "sign" if name == "majority-vote" else "l1-sign"
    needed = {f"strategy__{NEED_CLIENTS[name]}": 0.5} if name in NEED_CLIENTS else {}
    settings = read(compressor=compressor, strategy__name=name, strategy__trim=0, **needed)  # trim = 0 fits every strategy
    strategy = settings.make_strategy(fraction_evaluate=0.125, on_round=reports.append)
    inner: Any = strategy.strategy if isinstance(strategy, Decompressed) else strategy
    assert inner.fraction_evaluate == 0.125
    assert strategy.history.on_round == reports.append


def test_flowers_own_strategies_take_their_own_parameters() -> None:
    settings = read(strategy__name="fed-trimmed-avg", strategy__trim=None, strategy__beta=0.3, strategy__step_size=0.5)
    strategy = settings.make_strategy()
    assert isinstance(strategy, Decompressed) and isinstance(strategy.strategy, FedTrimmedAvg)
    assert (strategy.strategy.beta, strategy.step_size) == (0.3, 0.5)
    settings = read(compressor="sign", strategy__name="majority-vote", strategy__trim=None, **{"strategy__step-size": 0.5})
    vote = settings.make_strategy()
    assert isinstance(vote, SignMajorityVote) and vote.step_size == 0.5 and vote.packing.compressor == Sign()


OPTIMISERS: dict[str, tuple[type[FedAvg], dict[str, Any]]] = {
    "fed-adagrad": (FedAdagrad, {"eta": 0.3, "tau": 0.01}),
    "fed-adam": (FedAdam, {"eta": 0.3, "beta_1": 0.8, "beta_2": 0.9}),
    "fed-avg-m": (FedAvgM, {"server_learning_rate": 0.5, "server_momentum": 0.9}),
    "fed-prox": (FedProx, {"proximal_mu": 0.1}),
    "fed-yogi": (FedYogi, {"eta": 0.3, "beta_1": 0.8}),
    "q-fed-avg": (QFedAvg, {"client_learning_rate": 0.1, "q": 0.2, "train_loss_key": "loss"}),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_flowers_optimisers_are_known_by_name_and_train(name: str) -> None:
    kind, params = OPTIMISERS[name]
    settings = read(strategy__name=name, strategy__trim=None, **{f"strategy__{key}": value for key, value in params.items()})
    strategy: Any = settings.make_strategy(fraction_evaluate=0.0)
    assert type(strategy.strategy) is kind
    assert {key: getattr(strategy, key) for key in params} == params
    model = gaussian_model()
    client = app(lambda w: {n: t - 0.25 for n, t in w.items()}, [configured_mod], metrics={"num-examples": 3, "loss": 1.0})
    with InProcessGrid(client, 4, run_config={**GOOD, **_flat(name, params)}) as grid:
        result = strategy.start(grid, ArrayRecord(model), num_rounds=2)
    assert settings.error_feedback and len(strategy.reports[-1].kept) == 4
    after = result.arrays.to_torch_state_dict()
    assert all(bool((after[n] < t).all()) for n, t in model.items())


def _flat(name: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"robustcomp.strategy.name": name, "robustcomp.strategy.trim": 0} | {
        f"robustcomp.strategy.{key}": value for key, value in params.items()
    }


def test_every_strategy_of_flowers_that_averages_arrays_has_a_name() -> None:
    from flwr.serverapp import strategy as flowers

    kinds = {kind for kind in vars(flowers).values() if isinstance(kind, type) and issubclass(kind, FedAvg)}
    assert kinds == {*FLOWER_STRATEGIES.values(), flowers.FedXgbBagging, flowers.FedXgbCyclic}
    # as Flower writes their names, with a dash before each word
    assert all(name.replace("-", "") == kind.__name__.lower() for name, kind in FLOWER_STRATEGIES.items())


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no name, and a parameter of another strategy": (
        {"strategy__name": None, "strategy__beta": 0.1},
        ["robustcomp.strategy.beta", "'robust-compressed'", "trim"],
    ),
    "unknown setting": ({"trimm": 1}, ["robustcomp.trimm", "robustcomp.strategy"]),
    "unknown compressor": ({"compressor": "l2-sign"}, ["robustcomp.compressor", "qsgd, random-k", "'l2-sign'"]),
    "unknown strategy": ({"strategy__name": "fedavg"}, ["robustcomp.strategy", "fed-avg", "'fedavg'"]),
    "unknown parameter": ({"strategy__beta": 0.1}, ["robustcomp.strategy.beta", "'norm-threshold'", "trim"]),
    "trim too large": ({"strategy__trim": 0.5}, ["robustcomp.strategy", "trim", "[0, 0.5)", "0.5"]),
    "trim of another type": ({"strategy__trim": "two"}, ["robustcomp.strategy.trim", "'two'"]),
    "trim where nothing is trimmed": ({"strategy__name": "krum"}, ["robustcomp.strategy.trim", "'krum'", "allowed"]),
    "FedProx without mu": (
        {"strategy__name": "fed-prox", "strategy__trim": 0},
        ["robustcomp.strategy.proximal_mu", "'fed-prox'"],
    ),
    "q-FedAvg without a rate": ({"strategy__name": "q-fed-avg", "strategy__trim": 0}, ["client_learning_rate", "'q-fed-avg'"]),
    "a negative mu": (
        {"strategy__name": "fed-prox", "strategy__trim": 0, "strategy__proximal_mu": -1.0},
        ["'fed-prox'", "proximal_mu", "at least 0", "-1"],
    ),
    "no learning rate": (
        {"strategy__name": "fed-adam", "strategy__trim": 0, "strategy__eta": 0.0},
        ["'fed-adam'", "eta", "above 0", "0.0"],
    ),
    "another one's parameter": (
        {"strategy__name": "fed-adam", "strategy__trim": 0, "strategy__server_momentum": 0.5},
        ["robustcomp.strategy.server_momentum", "'fed-adam'", "beta_1, beta_2, eta, eta_l, step_size, tau"],
    ),
    "trees": (
        {"strategy__name": "fed-xgb-bagging", "strategy__trim": 0},
        ["robustcomp.strategy", "'fed-xgb-bagging'", "trees"],
    ),
    "an option of the app's": ({"strategy__fraction_train": 0.5}, ["robustcomp.strategy.fraction_train", "allowed"]),
    "a string for a boolean": ({"error-feedback": "yes"}, ["robustcomp.error_feedback", "boolean", "'yes'"]),
    "unknown granularity": ({"granularity": "layer"}, ["robustcomp.granularity", "'model' or 'array'", "'layer'"]),
    "compressor that does not fit": ({"compressor": "sign"}, ["robustcomp.strategy", "norm", "reported"]),
    "a value and a table": ({"compressor__name": "sign"}, ["robustcomp.compressor"]),
    "twice": ({"error_feedback": False}, ["robustcomp.error_feedback", "once"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_one_line_that_names_the_key_and_what_is_allowed(case: str) -> None:
    changes, words = BAD[case]
    with pytest.raises(ConfigurationError) as caught:
        read(**changes)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("head", ["robustcom", "robust-comp", "robustcompressor", "robustcomb"])
def test_a_table_of_nearly_the_right_name_is_an_error(head: str) -> None:
    with pytest.raises(ConfigurationError, match=f"robustcomp must be the name of the table, got '{head}'"):
        Settings.from_run_config({f"{head}.compressor": "sign"})
    Settings.from_run_config({"robust.compressor": "sign", "learning-rate": 0.1})


def test_a_config_is_read_and_not_changed() -> None:
    config: dict[str, Any] = {
        "robustcomp": {"compressor": "drive", "strategy": {"trim": 0.1}},
        "robustcomp.granularity": "model",
    }
    before = copy.deepcopy(config)
    assert Settings.from_run_config(config) == Settings.from_run_config(config)
    assert config == before


def test_the_name_of_the_default_alone_is_the_default() -> None:
    assert Settings.from_run_config({"robustcomp.strategy": "robust-compressed"}) == Settings()
    assert read(strategy__name="robust-compressed", strategy__trim=None).strategy.params["trim"] == 0.2


def test_a_table_that_is_none_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="robustcomp must be a table"):
        Settings.from_run_config({"robustcomp": 1})


@pytest.mark.parametrize("config", [{}, {"lr": 0.1}, {"robustcomp.compressor": "drive", "robustcomp.strategy.trim": 0.2}])
def test_the_default_is_the_recipe(config: dict[str, Any]) -> None:
    settings = Settings.from_run_config(config)
    mod, strategy = settings.make_mod(), settings.make_strategy()
    assert (mod.packing.compressor, mod.error_feedback) == (Drive(), True)
    assert isinstance(strategy, RobustCompressed)
    assert [type(one).__name__ for one in strategy.filters] == ["NormClipping", "Directions", "Spectral"]
    assert (strategy.trim, strategy.length_screen) == (0.2, 5.0)


def test_a_parameter_alone_changes_the_recipe() -> None:
    strategy = read(strategy__name=None, strategy__trim=2).make_strategy()
    assert isinstance(strategy, RobustCompressed)
    assert (strategy.trim, strategy.length_screen, [one.trim for one in strategy.filters]) == (2, 5.0, [2, 2, 2])


@pytest.mark.parametrize(
    ("compressor", "feedback"),
    [
        ({"name": "l1-sign"}, True),
        ({"name": "top-k", "ratio": 0.1}, True),
        ({"name": "qsgd"}, False),  # unbiased
        ({"name": "qsgd", "contraction": True}, True),
        ({"name": "drive", "unbiased_scale": True}, False),  # no contraction
        ({"name": "sign"}, False),
        ({"name": "identity"}, False),  # nothing is lost
        ({"name": "low-rank", "rank": 2}, True),
        ({"name": "low-rank", "rank": 2, "method": "atomo"}, False),
        ({"name": "by-shape", "matrices": "drive"}, True),
        ({"name": "by-size", "large": {"name": "top-k", "ratio": 0.1}, "small": "drive"}, True),
        ({"name": "by-shape", "matrices": "drive", "vectors": "qsgd"}, False),
    ],
)
def test_error_feedback_is_on_for_contractions(compressor: dict[str, Any], feedback: bool) -> None:
    each = compressor["name"].startswith(("low-rank", "by-"))
    fields = {"compressor": compressor, "strategy": {"name": "fed-avg"}, "granularity": "array" if each else "model"}
    settings = Settings.model_validate(fields)
    assert settings.make_mod().error_feedback is feedback


def test_the_mod_does_what_the_run_config_of_the_message_says() -> None:
    model = gaussian_model()
    client = app(lambda w: {name: t - 0.5 for name, t in w.items()}, [configured_mod])
    for compressor, stype in (("l1-sign", stype_of(L1Sign())), ("top-k", stype_of(TopK(ratio=0.5)))):
        config = {**GOOD, "robustcomp.compressor.name": compressor}
        del config["robustcomp.compressor"]
        config |= {"robustcomp.compressor.ratio": 0.5} if compressor == "top-k" else {}
        context = node(**config)
        reply = client(request(model), context)
        assert [array.stype for array in replied(reply).values()] == [stype]
        assert MODEL_ARRAY in replied(reply)
        assert len(context.state) == 1  # the residual
    (array,) = replied(client(request(model), node())).values()
    assert array.stype == stype_of(Drive())  # the default, where there is no table


def test_a_run_on_a_grid() -> None:
    client = app(lambda w: {name: t - 0.25 for name, t in w.items()}, [configured_mod])
    model = gaussian_model()
    with InProcessGrid(client, 5, run_config=GOOD) as grid:
        strategy = Settings.from_run_config(GOOD).make_strategy(fraction_evaluate=0.0)
        result = strategy.start(grid, ArrayRecord(model), num_rounds=2)
    assert isinstance(result.arrays, ArrayRecord)
    after = result.arrays.to_torch_state_dict()
    assert torch.allclose(after["weight"], model["weight"] - 0.5, atol=1e-6)
    assert len(strategy.reports[-1].kept) == 4
