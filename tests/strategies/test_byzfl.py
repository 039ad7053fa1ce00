"""ByzFL's aggregators behind screening: they get the dense updates, and whatever they do, the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord

from flwr_robustcomp import to_arrays
from flwr_robustcomp.compressors import QSGD, Compressor, Identity, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import Scenario, run_scenario
from flwr_robustcomp.simulations.scenario.setup import check_components
from flwr_robustcomp.strategies import ByzFL, Policy
from flwr_robustcomp.strategies import byzfl as adapter
from tests.apps import gaussian_model
from tests.optional import needs_byzfl
from tests.simulations.kit import small
from tests.strategies.rounds import MODEL, SAMPLING, answers, ask, moved, q, updates

XS = updates(9)


def strategy(compressor: Compressor = L1Sign(), **options: Any) -> ByzFL:  # noqa: B008 (immutable)
    return ByzFL(compressor=compressor, **SAMPLING, **options)


def dense(compressor: Compressor = L1Sign()) -> torch.Tensor:  # noqa: B008
    return torch.stack([q(x, compressor, i) for i, x in enumerate(XS)])


def make(name: str, **parameters: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    rules = {**adapter.classes_of("aggregators"), **adapter.classes_of("preaggregators")}
    rule: Callable[[torch.Tensor], torch.Tensor] = rules[name](**parameters)
    return rule


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[torch.Tensor], Any]], None]:
    """Let the trimmed mean do something else."""

    def replace(call: Callable[[torch.Tensor], Any]) -> None:
        monkeypatch.setattr(adapter.classes_of("aggregators")["TrMean"], "__call__", lambda self, vectors: call(vectors))

    return replace


@needs_byzfl
@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), TopK(k=3), QSGD(levels=4)], ids=repr)
def test_the_rules_get_the_decompressed_updates(compressor: Compressor) -> None:
    ours = strategy(compressor, aggregator="Krum", pre="ARC+NNM", trim=2, step_size=0.5)
    got = moved(ours, answers(ours, XS, compressor))
    wanted = make("Krum", f=2)(make("NNM", f=2)(make("ARC", f=2)(dense(compressor))))
    assert torch.allclose(got, 0.5 * wanted, atol=1e-6)
    assert len(ours.reports[-1].kept) == 9 and ours.reports[-1].norms.keys() == set(ours.reports[-1].kept)


@needs_byzfl
@pytest.mark.parametrize(
    "name", ["Average", "CAF", "GeometricMedian", "Krum", "MDA", "Meamed", "Median", "MoNNA", "MultiKrum", "SMEA"]
)
def test_every_aggregator_works(name: str) -> None:
    ours = strategy(aggregator=name, trim=0.2)
    assert moved(ours, answers(ours, XS, L1Sign())).norm() > 0
    assert ours.reports[-1].skipped is None


@needs_byzfl
def test_the_table_above_is_not_stale() -> None:
    known = set(adapter.classes_of("aggregators"))
    assert known == {
        *("Average", "CAF", "CenteredClipping", "GeometricMedian", "Krum", "MDA", "Meamed", "Median"),
        *("MoNNA", "MultiKrum", "SMEA", "TrMean"),
    }
    assert set(adapter.classes_of("preaggregators")) == {"ARC", "Bucketing", "Clipping", "NNM"}
    assert set(adapter._EXHAUSTIVE) <= known and adapter._CENTRED in known


@needs_byzfl
def test_a_fraction_follows_the_replies() -> None:
    ours = strategy(aggregator="TrMean", trim=0.3)  # 3 of 9, and 2 of 6
    for count, f in ((9, 3), (6, 2)):
        replies = answers(ours, XS, L1Sign())[:count]
        assert torch.allclose(moved(ours, replies), make("TrMean", f=f)(dense()[:count]), atol=1e-6)


@needs_byzfl
def test_parameters_reach_the_rule_and_the_centre_is_the_last_one() -> None:
    ours = strategy(aggregator={"name": "CenteredClipping", "tau": 0.5, "L": 2})
    theirs = make("CenteredClipping", tau=0.5, L=2)
    for _ in range(3):
        assert torch.allclose(moved(ours, answers(ours, XS, L1Sign())), theirs(dense()), atol=1e-6)


@needs_byzfl
def test_draws_follow_from_seed_and_round() -> None:
    def play(seed: int) -> torch.Tensor:
        ours = strategy(aggregator="Median", pre={"name": "Bucketing", "s": 3}, seed=seed)
        return moved(ours, answers(ours, XS, L1Sign()))

    torch.rand(3)  # the global state counts for nothing, and is left alone
    before = torch.get_rng_state()
    assert torch.equal(play(1), play(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(play(1), play(2))


@needs_byzfl
@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: 1 / 0, "division by zero"),
        (lambda x: None, "result must be a vector of 23 coordinates, got 'NoneType'"),
        (lambda x: x, "result must be a vector of 23 coordinates, got 'Tensor'"),
        (lambda x: x[0] * torch.nan, "result must be finite, got 'NaN or inf'"),
        (lambda x: (_ for _ in ()).throw(MemoryError()), "MemoryError"),
    ],
)
def test_whatever_it_does_the_run_goes_on(broken: Any, call: Any, why: str) -> None:
    ours = strategy(trim=1)
    replies = answers(ours, XS, L1Sign())
    broken(call)
    arrays, metrics = ours.aggregate_train(1, replies)
    assert arrays is None and metrics is not None
    assert ours.reports[-1].skipped == f"ByzFL's TrMean: {why}" and not ours.reports[-1].quorum


@needs_byzfl
def test_too_few_replies_skip_the_round() -> None:
    ours = strategy(aggregator="Krum", trim=3)
    assert ours.aggregate_train(1, answers(ours, XS, L1Sign())[:5])[0] is None
    assert "Cannot tolerate 2f" in str(ours.reports[-1].skipped)
    ours = strategy(aggregator="Krum", trim=3, policy=Policy(quorum=6))
    assert ours.aggregate_train(1, answers(ours, XS, L1Sign())[:5])[0] is None
    assert "the quorum is 6 of 9" in str(ours.reports[-1].skipped)


@needs_byzfl
@pytest.mark.parametrize("name", ["CAF", "MoNNA", "Krum"])
def test_what_float32_cannot_square_never_gets_there(name: str) -> None:
    model = gaussian_model(0, torch.float64)
    xs = [x.double() for x in XS]
    honest = strategy(Identity(), aggregator=name, trim=1, seed=0)
    wanted = moved(honest, answers(honest, xs, Identity(), model=model)[1:], model=model)
    xs[0] = 1e30 * torch.ones_like(xs[0])
    ours = strategy(Identity(), aggregator=name, trim=2, seed=0)  # one of the two is found already
    got = moved(ours, answers(ours, xs, Identity(), model=model), model=model)
    assert torch.allclose(got, wanted)
    report = ours.reports[-1]
    assert len(report.kept) == 8 and len(report.trimmed) == 1 and report.norms.keys() == {*report.kept, *report.trimmed}


@needs_byzfl
def test_rules_that_would_never_end_are_refused() -> None:
    strategy(aggregator="MDA", trim=4).check_nodes(9)
    with pytest.raises(
        ConfigurationError, match=r"MDA of 45 nodes with trim 4: .* 41 vectors must be at most 100,000, got 148995"
    ):
        strategy(aggregator="MDA", trim=4).check_nodes(45)
    ours = strategy(aggregator="SMEA", pre={"name": "Bucketing", "s": 10}, trim=1)
    ours.check_nodes(400)  # 40 of 40 buckets but one
    with pytest.raises(ConfigurationError, match="SMEA of 200 nodes with trim 20"):
        strategy(aggregator="SMEA", trim=20).check_nodes(200)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"aggregator": "Krumm"}, "aggregator must be one of Average, .*TrMean, got 'Krumm'"),
    ({"pre": "NNM+Krum"}, "pre must be one of ARC, Bucketing, Clipping, NNM, got 'Krum'"),
    ({"aggregator": {"name": "Krum", "g": 1}}, "aggregator.g is no parameter of 'Krum', allowed: none"),
    ({"aggregator": {"name": "Krum", "f": 1}}, "aggregator.f is no parameter of 'Krum'"),
    ({"aggregator": {"name": "GeometricMedian", "nu": 1}}, r"aggregator 'GeometricMedian': .* float, got \{'nu': 1\}"),
    ({"aggregator": {"name": "CenteredClipping", "m": 1}}, r"aggregator 'CenteredClipping': m must be .*, got \{'m': 1\}"),
    ({"pre": [{"name": "Bucketing", "s": 0}]}, r"pre 'Bucketing': .* positive integer, got \{'s': 0\}"),
    ({"aggregator": {"nu": 1}}, "aggregator must be a name, or a table with a name"),
    ({"pre": [3]}, "pre must be a name, or a table with a name, got 3"),
    ({"trim": 0.5}, r"trim must be a count .* or a fraction in \[0, 0.5\), got 0.5"),
    ({"step_size": 0.0}, "step_size must be positive .*, got 0.0"),
    ({"seed": -1}, "seed must be an integer from 0, or None, got -1"),
]


@needs_byzfl
@pytest.mark.parametrize(("options", "line"), BAD)
def test_bad_parameters_are_one_line_at_construction(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=line) as caught:
        strategy(**options)
    assert "\n" not in str(caught.value)


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "byzfl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "byzfl", None)  # as if it were not installed
    adapter.classes_of.cache_clear()
    with pytest.raises(ConfigurationError, match=r"ByzFL must be installed .*: pip install 'flwr-robustcomp\[byzfl\]'"):
        strategy(aggregator="Krum")
    with pytest.raises(ValueError, match="strategy 'byzfl': ByzFL must be installed"):
        check_components(small(strategy={"name": "byzfl", "aggregator": "Krum", "trim": 2}))


@needs_byzfl
def test_nothing_else_of_byzfl_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "byzfl"]:
        monkeypatch.delitem(sys.modules, name)
    adapter.classes_of.cache_clear()
    strategy(aggregator="Krum")
    loaded = {name for name in sys.modules if name.partition(".")[0] == "byzfl"}
    assert "byzfl.aggregators.aggregators" in loaded
    assert not loaded & {"byzfl", "byzfl.benchmark", "byzfl.fed_framework", "byzfl.attacks"}


@needs_byzfl
def test_a_scenario_names_it_in_one_line() -> None:
    scenario = small(
        strategy={"name": "byzfl", "aggregator": "Krum", "pre": "NNM", "trim": "byzantine", "step_size": 0.1}, rounds=3
    )
    records = run_scenario(scenario)
    assert records[-1]["error"] < records[0]["error"] and records[-1]["kept"] == scenario.nodes
    again = Scenario.from_run_config(scenario.to_run_config())
    assert again == scenario and np.isclose(run_scenario(again)[-1]["error"], records[-1]["error"])
    with pytest.raises(ValueError, match=r"Bucketing\+Krum of 10 nodes with trim 2: Cannot tolerate"):
        check_components(
            small(strategy={"name": "byzfl", "aggregator": "Krum", "pre": {"name": "Bucketing", "s": 5}, "trim": 2})
        )


@needs_byzfl
def test_it_is_asked_before_it_is_answered() -> None:
    ours = strategy()
    assert len(ask(ours, 4)) == 4
    assert list(ours.configure_evaluate(1, to_arrays(MODEL), ConfigRecord(), None)) == []  # type: ignore[arg-type]
