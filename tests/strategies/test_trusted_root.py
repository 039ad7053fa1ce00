"""A root of the server's own: what it decides with a majority of liars, and what its faults cost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from flwr_robustcomp import ConfigurationError, Drive, RobustCompressed, Settings, TrustedRoot, from_arrays, to_arrays
from flwr_robustcomp.component import Component
from flwr_robustcomp.compressors import Identity, L1Sign, TopK
from flwr_robustcomp.filters import Filter, Zeno
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.packing import Packing
from flwr_robustcomp.strategies.registry import build_strategy
from tests.strategies.rounds import MODEL, SAMPLING, answer, answers, ask, moved, root_of, updates

D = Layout.of(MODEL).dim
OWN = torch.linspace(0.5, 1.5, D)


def crowd(liars: int, length: float = 5.0) -> list[torch.Tensor]:
    """Return three honest updates, and liars against them."""
    return [OWN + 0.1 * x for x in updates(3)] + [-length * OWN] * liars


@pytest.mark.parametrize("filters", ["fl-trust", "zeno"])
def test_three_honest_nodes_outweigh_twenty_seven(filters: str) -> None:
    trim = 27 if filters == "zeno" else 0
    strategy = RobustCompressed(compressor=Identity(), filters=filters, trim=trim, root=root_of(OWN), **SAMPLING)
    step = moved(strategy, answers(strategy, crowd(27), Identity()))
    assert float(torch.cosine_similarity(step, OWN, dim=0)) > 0.97
    assert strategy.reports[-1].kept == (1000, 1001, 1002)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(-40, 37).map(lambda e: 10.0**e), min_size=18, max_size=18),
    seed=st.integers(0, 100),
    compressor=st.sampled_from([Identity(), L1Sign(), Drive(), TopK(ratio=0.3)]),
    share=st.sampled_from([0.0, 0.25, 0.9]),
)
def test_no_majority_makes_the_step_longer_than_the_root_or_takes_its_share(
    lengths: list[float], seed: int, compressor: Any, share: float
) -> None:
    strategy = RobustCompressed(compressor=compressor, root=root_of(OWN, share=share), **SAMPLING)
    directions = [x / x.norm() for x in updates(18, seed=seed)]
    xs = [OWN, *updates(1)] + [length * (x + OWN / OWN.norm()) for x, length in zip(directions, lengths, strict=True)]
    step = moved(strategy, answers(strategy, xs, compressor))
    assert float(step.norm()) <= float(OWN.norm()) * (1 + 1e-4)
    assert float(step @ OWN) >= (share - 1e-4) / 16 * float(OWN @ OWN)  # halved four times at most
    assert strategy.reports[-1].step is not None and strategy.reach(20) == 1.0


@pytest.mark.parametrize("compressor", [L1Sign(), Identity()], ids=repr)
def test_an_update_that_overflows_the_model_has_an_infinite_loss(compressor: Any) -> None:
    strategy = RobustCompressed(compressor=compressor, filters="zeno", trim=1, root=root_of(OWN), **SAMPLING)
    strategy.aggregate_train(1, answers(strategy, [torch.full((D,), 2e38), *updates(3)], compressor))
    assert strategy.reports[-1].kept == (1001, 1002, 1003) and not strategy.reports[-1].rejected


def test_a_step_that_raises_the_loss_on_the_sample_is_halved_until_it_does_not() -> None:
    across = updates(1)[0]
    across -= OWN * (across @ OWN) / (OWN @ OWN)
    astray = OWN / OWN.norm() + 5 * across / across.norm()  # trusted a little: the cosine is 0.2
    found = root_of(OWN)
    lengths = []
    for root in (found, replace(found, loss=None)):
        strategy = RobustCompressed(compressor=Identity(), root=root, **SAMPLING)
        lengths.append(float(moved(strategy, answers(strategy, [astray] * 3, Identity())).norm() / OWN.norm()))
    assert lengths == pytest.approx([0.25, 1.0], rel=1e-5)  # s^2 < 2 s cos, first at s = 1/4


@settings(max_examples=30, deadline=None)
@given(before=st.floats(-1e3, 1e3), losses=st.lists(st.floats(), min_size=4, max_size=4))
def test_a_step_is_halved_until_the_loss_is_no_higher_and_never_beyond_a_sixteenth(before: float, losses: list[float]) -> None:
    """Whatever the loss says: the first of w - g, w - g/2, ..., w - g/8 that does not raise it, and w - g/16 if they all do."""
    found, layout, asked = root_of(OWN), Layout.of(MODEL), []

    def loss(server_round: int, arrays: ArrayRecord) -> float:
        step = layout.flatten(MODEL) - layout.flatten(from_arrays(arrays))
        if not step.any():
            return before
        asked.append(round(-math.log2(float(step @ OWN) / float(OWN @ OWN))))
        return losses[asked[-1]]

    strategy = RobustCompressed(compressor=Identity(), root=replace(found, loss=loss), **SAMPLING)
    step = moved(strategy, answers(strategy, [OWN] * 3, Identity()))
    halvings = next((i for i, one in enumerate(losses) if one <= before), 4)
    torch.testing.assert_close(step, OWN / 2**halvings, rtol=1e-4, atol=1e-5)
    assert asked == list(range(min(halvings + 1, 4)))


def test_a_share_of_the_step_is_the_roots_own_where_a_filter_looks_at_it() -> None:
    other = torch.ones(D)
    plain = RobustCompressed(compressor=Identity(), root=root_of(OWN), **SAMPLING)
    whole = moved(plain, answers(plain, [other] * 3, Identity()))
    mixed = RobustCompressed(compressor=Identity(), root=root_of(OWN, share=0.25), **SAMPLING)
    assert torch.allclose(moved(mixed, answers(mixed, [other] * 3, Identity())), 0.75 * whole + 0.25 * OWN, atol=1e-5)
    zeno = RobustCompressed(compressor=Identity(), filters="zeno", trim=1, root=root_of(OWN, share=0.25), **SAMPLING)
    assert torch.allclose(moved(zeno, answers(zeno, [other] * 3, Identity())), other, atol=1e-5)
    assert TrustedRoot(_raises).share == 0.25


def test_with_a_root_the_default_filter_trusts_it_and_there_is_no_screen_by_medians() -> None:
    strategy = RobustCompressed(compressor=Drive(), root=root_of(OWN))
    assert [one.name for one in strategy.filters] == ["fl-trust"] and strategy.length_screen is None
    other = RobustCompressed(compressor=Drive(), filters="spectral")
    assert other.length_screen == 100.0
    assert [one.name for one in RobustCompressed(compressor=Drive()).filters] == ["spectral"]
    strategy.check_nodes(1)


def test_uncompressed_arrays_come_from_the_root_and_not_from_a_median_of_liars() -> None:
    model = {"w": torch.zeros(6), "norm.running_mean": torch.zeros(2), "count": torch.zeros((), dtype=torch.int64)}
    own = torch.ones(6)
    truth = {"norm.running_mean": torch.tensor([1.0, 2.0]), "count": torch.tensor(7)}

    def train(server_round: int, arrays: ArrayRecord) -> dict[str, Any]:
        return {"w": (from_arrays(arrays)["w"] - own).numpy(), "norm.running_mean": [1.0, 2.0], "count": np.int32(7)}

    strategy = RobustCompressed(compressor=Identity(), root=train, **SAMPLING)
    replies = answers(strategy, [own] * 3, Identity(), model=model)  # which say 0
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    found = from_arrays(arrays)
    assert all(torch.equal(found[name], value) for name, value in truth.items())
    assert torch.allclose(found["w"], -own)


def test_a_root_may_reply_with_an_update_and_with_an_array_record() -> None:
    layout = Layout.of(MODEL)

    def gradient(server_round: int, arrays: ArrayRecord) -> ArrayRecord:
        assert server_round == 1
        return to_arrays(layout.split(OWN))

    strategy = RobustCompressed(compressor=Identity(), root=TrustedRoot(gradient, reply="update"), **SAMPLING)
    step = moved(strategy, answers(strategy, [OWN, -OWN, -OWN], Identity()))
    assert torch.allclose(step, OWN, atol=1e-5)


def _raises(server_round: int, arrays: ArrayRecord) -> ArrayRecord:
    raise RuntimeError("no\nGPU")


def _changed(**changes: Any) -> Any:
    def train(server_round: int, arrays: ArrayRecord) -> dict[str, Any]:
        own: dict[str, Any] = {name: 0.9 * tensor for name, tensor in from_arrays(arrays).items()}
        return {name: value for name, value in {**own, **changes}.items() if value is not None}

    return train


FIRST = next(iter(MODEL))
FAULTS = [
    (_raises, "the root raised RuntimeError: no GPU"),
    (lambda round_, arrays: None, "the root must return an ArrayRecord or a mapping of arrays, got NoneType"),
    (_changed(**{FIRST: None}), "the root must return the model's arrays "),
    (_changed(other=np.zeros(3)), "the root must return the model's arrays "),
    (_changed(**{FIRST: np.zeros((3, 1, 4))}), f"shape of the root's '{FIRST}' must be "),
    (_changed(**{FIRST: "text"}), "the root raised "),
    (_changed(**{FIRST: torch.full(MODEL[FIRST].shape, torch.nan)}), "arrays of the root must be finite, got 'NaN or inf'"),
    (lambda round_, arrays: arrays, "norm of the root's update must be above 0 and at most 3.1e+144, got 0.0"),
    (lambda round_, arrays: {n: -0.1 * t for n, t in from_arrays(arrays).items()}, "at least one update must point where"),
]


@pytest.mark.parametrize(("root", "reason"), FAULTS, ids=[reason[:40] for _, reason in FAULTS])
def test_a_fault_of_the_root_skips_the_round_with_its_reason(root: Any, reason: str) -> None:
    calls = []

    def counted(server_round: int, arrays: ArrayRecord) -> Any:
        calls.append(server_round)
        return root(server_round, arrays)

    strategy = RobustCompressed(compressor=Identity(), root=counted, **SAMPLING)
    own = Layout.of(MODEL).flatten(MODEL)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, [-own] * 3, Identity()))
    report = strategy.reports[-1]
    assert arrays is None and report.skipped is not None
    assert report.skipped.startswith(reason) and "\n" not in report.skipped
    assert len(report.norms) == 3  # nothing that was measured is lost
    assert calls == [1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"root": 3}, r"root must be callable, as train\(server_round, arrays\), got 3"),
        ({"filters": "fl-trust"}, "filters must be one that works without root, which is not set up, got 'fl-trust'"),
        ({"filters": "zeno", "trim": 1, "root": _raises}, "filters must be one that works without losses"),
        ({"filters": "norm+fl-trust", "trim": 1}, "filters must be one that works without root"),
        (
            {"filters": "spectral", "root": _raises},
            "root must be left out where no filter looks at it, as fl-trust and zeno do",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_construction(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RobustCompressed(compressor=Drive(), **options)


@pytest.mark.parametrize("name", ["fed-avg", "krum", "norm-threshold", "byzfl"])
def test_a_strategy_without_a_use_for_a_root_refuses_it(name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        build_strategy("strategy", Component(name=name), packing=Packing(Drive()), root=_raises)
    told = (
        f"root must be left out with the strategy {name!r} (robust-compressed has filters that look at one), got <function _ra"
    )
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(("field", "value"), [("loss", 3), ("reply", "gradient"), ("share", 1.0), ("share", True)])
def test_a_bad_part_of_a_root_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{field} of the root must be"):
        TrustedRoot(_raises, **{field: value})


def test_a_loss_that_fails_at_the_model_skips_the_round_and_at_one_update_drops_that() -> None:
    trains = root_of(OWN).train

    def fragile(server_round: int, arrays: ArrayRecord) -> float:
        flat = Layout.of(MODEL).flatten(from_arrays(arrays))
        if float(flat.abs().max()) > 100:
            raise OverflowError("too large")
        return float(flat.square().sum())

    rules: list[Filter | str] = [Zeno(1, rho=0.0)]
    strategy = RobustCompressed(compressor=Identity(), filters=rules, root=TrustedRoot(trains, fragile), **SAMPLING)
    moved(strategy, answers(strategy, [OWN, 1e4 * OWN], Identity()))
    assert strategy.reports[-1].kept == (1000,)

    strategy = RobustCompressed(compressor=Identity(), filters=rules, root=TrustedRoot(trains, _raises), **SAMPLING)  # type: ignore[arg-type]
    arrays, _ = strategy.aggregate_train(1, answers(strategy, [OWN, OWN], Identity()))
    assert arrays is None and strategy.reports[-1].skipped == "the loss of the root raised RuntimeError: no GPU"


def test_the_model_that_the_root_is_given_is_its_own() -> None:
    seen = {}

    def train(server_round: int, arrays: ArrayRecord) -> dict[str, torch.Tensor]:
        seen["model"] = from_arrays(arrays)
        for tensor in seen["model"].values():
            tensor.mul_(0.5)
        return seen["model"]

    strategy = RobustCompressed(compressor=Identity(), root=train, **SAMPLING)
    before = {name: tensor.clone() for name, tensor in MODEL.items()}
    requests = ask(strategy, 2)
    strategy.aggregate_train(1, [answer(request, OWN, Identity()) for request in requests])
    assert all(torch.equal(strategy.receiver.model[name], tensor) for name, tensor in before.items())


def test_settings_take_a_root_beside_the_table() -> None:
    strategy = Settings.from_run_config({}).make_strategy(root=root_of(OWN))
    assert isinstance(strategy, RobustCompressed)
    assert [one.name for one in strategy.filters] == ["fl-trust"]
