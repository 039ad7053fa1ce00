"""Flower's wrappers for differential privacy act on decompressed updates, and no client ends their run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedMedian,
)
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import CompressionMod, Decompressed, NormThreshold, to_arrays
from flwr_robustcomp.checkpoints.strategy_state import name_of, restore_strategy
from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Reason
from flwr_robustcomp.strategies.flower.private import check_wrapped, never_zero
from flwr_robustcomp.strategies.flower.stateful import check_state, stateful
from tests.apps import app
from tests.strategies.rounds import MODEL, SAMPLING, answer, answers, ask, moved, q, updates

NODES, CLIP = 5, 0.7
XS = [0.05 * x if i == 1 else x for i, x in enumerate(updates(NODES))]  # one within the bound


def fixed(noise: float = 0.0, inner: type[FedAvg] = FedAvg, **options: Any) -> Any:
    return DifferentialPrivacyServerSideFixedClipping(inner(**{**SAMPLING, **options}), noise, CLIP, NODES)


def adaptive(noise: float = 0.0) -> Any:
    return DifferentialPrivacyServerSideAdaptiveClipping(FedAvg(**SAMPLING), noise, NODES, initial_clipping_norm=CLIP)


def wrapped(strategy: Any, compressor: Compressor | None = None) -> Any:
    return Decompressed(strategy, compressor=compressor or L1Sign())


def clipped_mean(compressor: Compressor) -> torch.Tensor:
    sent = [q(x, compressor, i) for i, x in enumerate(XS)]
    assert min(x.norm() for x in sent) < CLIP < max(x.norm() for x in sent)
    return torch.stack([x * min(1.0, CLIP / float(x.norm())) for x in sent]).mean(dim=0)


@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), Drive()], ids=repr)
@pytest.mark.parametrize("make", [fixed, adaptive])
def test_clipping_acts_on_what_was_decompressed(make: Any, compressor: Compressor) -> None:
    strategy = wrapped(make(), compressor)
    got = moved(strategy, answers(strategy, XS, compressor))
    assert torch.allclose(got, clipped_mean(compressor), atol=1e-6)
    assert strategy.reports[-1].skipped is None and len(strategy.reports[-1].kept) == NODES


def test_noise_of_the_right_size_is_added_to_the_model() -> None:
    model = {"w": torch.zeros(20_000)}
    strategy = wrapped(fixed(noise=2.0), Identity())
    xs = updates(NODES, model)
    arrays, _ = strategy.aggregate_train(1, answers(strategy, xs, Identity(), model=model))
    mean = torch.stack([x * CLIP / x.norm() for x in xs]).mean(dim=0)
    noise = arrays.to_torch_state_dict()["w"] + mean
    assert float(noise.std()) == pytest.approx(2.0 * CLIP / NODES, rel=0.05)  # ten standard errors
    again, _ = strategy.aggregate_train(1, answers(strategy, xs, Identity(), model=model))
    assert again != arrays


def test_adaptive_clipping_moves_and_a_checkpoint_keeps_where_it_is() -> None:
    strategy = wrapped(adaptive())
    moved(strategy, answers(strategy, XS, L1Sign()))
    norm = CLIP * math.exp(-0.2 * (4 / 5 - 0.5))  # four of five were clipped
    assert strategy.clipping_norm == pytest.approx(norm)
    state = stateful(strategy).state()
    other = wrapped(adaptive())
    check_state(other, state, to_arrays(MODEL))
    restore_strategy(other, state)
    assert other.strategy.clipping_norm == strategy.clipping_norm
    assert name_of(other) == "Decompressed(DifferentialPrivacyServerSideAdaptiveClipping(FedAvg))"
    with pytest.raises(ConfigurationError, match=r"'robustcomp\.clipping-norm', a ConfigRecord, got none"):
        restore_strategy(other, RecordDict({key: record for key, record in state.items() if key != "robustcomp.clipping-norm"}))
    state["robustcomp.clipping-norm"] = ConfigRecord({"norm": -1.0})
    with pytest.raises(ConfigurationError, match=r"norm must be a positive number, got -1\.0"):
        restore_strategy(other, state)
    assert other.strategy.clipping_norm == pytest.approx(norm)


@pytest.mark.parametrize("make", [fixed, adaptive])
@pytest.mark.parametrize("start", [0.0, 1.0, 1e4])
def test_a_reply_without_a_change_does_not_end_the_run(make: Any, start: float) -> None:
    model = {"w": torch.full((40,), start)}
    strategy = wrapped(make(), Identity())
    xs = [torch.zeros(40), *updates(NODES - 1, model)]
    arrays, _ = strategy.aggregate_train(1, answers(strategy, xs, Identity(), model=model))
    assert arrays is not None
    w = model["w"]
    nudged = never_zero(w, torch.zeros(40))
    assert 0 < float((nudged - w).abs().sum()) <= 2e-3 and int((nudged != w).sum()) == 1
    assert torch.equal(never_zero(w, torch.ones(40)), w - 1)


def test_hostile_and_odd_replies_do_not_end_the_run() -> None:
    strategy = wrapped(fixed())
    replies = answers(strategy, XS, L1Sign())
    replies[0].content["metrics"] = MetricRecord({"num-examples": 3, "strange": [1.0]})
    replies[1].content["control"] = ArrayRecord({"c": next(iter(to_arrays(MODEL).values()))})
    replies[2].content["arrays"] = ArrayRecord()
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None and len(strategy.reports[-1].kept) == 4


@pytest.mark.parametrize(
    "model", [{"w": torch.ones(3), "count": torch.tensor(1)}, {"w": torch.ones(3), "scale": torch.tensor(1.0)}]
)
def test_models_that_flowers_clipping_does_not_clip_are_refused(model: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"model must hold float32 or float64 arrays .* DifferentialPrivacyServerSideFixedClipping clips no",
    ):
        ask(wrapped(fixed()), NODES, model)
    ask(wrapped(DifferentialPrivacyClientSideFixedClipping(FedAvg(**SAMPLING), 0.0, CLIP, NODES)), NODES, model)


def test_flower_does_not_clip_scalars() -> None:
    """If this fails, Flower has mended it, and the refusal of scalars can go."""
    w = {"scale": torch.tensor(1.0)}
    strategy, far = fixed(), to_arrays({"scale": torch.tensor(100.0)})
    requests = ask(strategy, NODES, w)
    strategy.strategy.min_train_nodes = 2
    from flwr.app import Message

    content = RecordDict({"arrays": far, "metrics": MetricRecord({"num-examples": 1})})
    arrays, _ = strategy.aggregate_train(1, [Message(content, reply_to=request) for request in requests])
    assert float(arrays.to_torch_state_dict()["scale"]) == pytest.approx(100.0)


# -- clipping on the client -----------------------------------------------------------------------------------------------


def test_clipping_on_the_client_asks_for_its_bound_and_adds_noise() -> None:
    model = {"w": torch.zeros(20_000)}
    strategy = wrapped(DifferentialPrivacyClientSideFixedClipping(FedAvg(**SAMPLING), 2.0, CLIP, NODES), Identity())
    requests = ask(strategy, NODES, model)
    assert all(request.content["config"]["clipping_norm"] == CLIP for request in requests)
    xs = [1e-3 * x for x in updates(NODES, model)]
    replies = [answer(r, x, Identity(), model=model) for r, x in zip(requests, xs, strict=True)]
    arrays, _ = strategy.aggregate_train(1, replies)
    noise = arrays.to_torch_state_dict()["w"] + torch.stack(xs).mean(dim=0)
    assert float(noise.std()) == pytest.approx(2.0 * CLIP / NODES, rel=0.05)


@pytest.mark.parametrize("bit", [None, 2, [1]])
def test_whoever_does_not_tell_whether_it_clipped_is_left_out(bit: Any) -> None:
    strategy = wrapped(
        DifferentialPrivacyClientSideAdaptiveClipping(FedAvg(**SAMPLING), 0.0, NODES, initial_clipping_norm=CLIP)
    )
    told = [{"num-examples": 1, "norm_bit": 1} for _ in XS]
    told[2] = {"num-examples": 1, **({} if bit is None else {"norm_bit": bit})}
    replies = [answer(r, x, L1Sign(), metrics=t) for r, x, t in zip(ask(strategy, NODES), XS, told, strict=True)]
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is not None
    (rejection,) = strategy.reports[-1].rejected
    assert (rejection.reason, "list adaptiveclipping_mod after the compression" in rejection.detail) == (Reason.METRICS, True)
    assert strategy.clipping_norm == pytest.approx(CLIP * math.exp(-0.2 * 0.5))


# -- the order ------------------------------------------------------------------------------------------------------------


class Ours(NormThreshold):
    def configure_train(self, *args: Any) -> Any:
        check_wrapped(self)
        return super().configure_train(*args)


@pytest.mark.parametrize("inner", [lambda: wrapped(FedAvg(**SAMPLING)), lambda: Ours(compressor=L1Sign(), **SAMPLING)])
@pytest.mark.parametrize(
    "wrapper",
    [
        lambda s: DifferentialPrivacyServerSideFixedClipping(s, 0.0, CLIP, NODES),
        lambda s: DifferentialPrivacyServerSideAdaptiveClipping(s, 0.0, NODES),
        lambda s: DifferentialPrivacyClientSideAdaptiveClipping(s, 0.0, NODES),
    ],
)
def test_a_wrapper_outside_is_refused_with_the_right_order(wrapper: Any, inner: Any) -> None:
    strategy = wrapper(inner())
    client = app(lambda w: w, [CompressionMod(L1Sign())])
    with InProcessGrid(client, NODES) as grid, pytest.raises(ConfigurationError) as raised:
        strategy.start(grid, to_arrays(MODEL), num_rounds=1)
    name, ours = type(strategy).__name__, type(strategy.strategy).__name__
    assert str(raised.value).startswith(f"{name} must stand inside, where replies are decompressed: Decompressed({name}(")
    assert str(raised.value).endswith(f"got it around {ours}, whose replies are packed")


def test_whole_runs_in_the_right_order() -> None:
    client = app(lambda w: {name: t - 1.0 for name, t in w.items()}, [CompressionMod(L1Sign())])
    makers: tuple[Callable[[], Any], ...] = (fixed, lambda: fixed(inner=FedMedian), adaptive)
    for make in makers:
        strategy = wrapped(make())
        with InProcessGrid(client, NODES) as grid:
            result = strategy.start(grid, to_arrays(MODEL), num_rounds=1)
        after = torch.cat([t.reshape(-1) for t in result.arrays.to_torch_state_dict().values()])
        before = torch.cat([t.reshape(-1) for t in MODEL.values()])
        assert float((after - before).norm()) == pytest.approx(CLIP, rel=1e-5)


LENGTHS = st.lists(st.floats(0, 10), min_size=2, max_size=12)


@given(lengths=LENGTHS, new=st.floats(0, 1), data=st.data())
def test_one_client_more_moves_the_sum_of_the_shortest_by_at_most_its_bound(
    lengths: list[float], new: float, data: Any
) -> None:
    """What docs/how-to/privacy.md says of a threshold: others, liars included, may be of any length."""
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(lengths) + 1, max_size=len(lengths) + 1))
    trim = data.draw(st.integers(0, (len(lengths) - 1) // 2))
    vectors = [sign * length for sign, length in zip(signs, [*lengths, new], strict=True)]

    def kept(of: list[float]) -> float:
        return math.fsum(sorted(of, key=abs)[: len(of) - trim])

    assert abs(kept(vectors) - kept(vectors[:-1])) <= new + 1e-9


# -- with an accountant ---------------------------------------------------------------------------------------------------


class Counting:
    """An accountant that counts releases; its epsilon is their number."""

    def __init__(self) -> None:
        self.num_releases = 0

    @property
    def config(self) -> Any:
        from flwr import serverapp

        return serverapp.PrivacyConfig(
            1e-5, NODES, serverapp.NeighboringRelation.ADD_OR_REMOVE_ONE, serverapp.SamplingMethod.NO_AMPLIFICATION
        )

    def compose(self, event: Any, count: int = 1) -> None:
        self.num_releases += count

    def get_privacy_spent(self, delta: float | None = None) -> Any:
        from flwr import serverapp

        return serverapp.PrivacySpent(float(self.num_releases), 1e-5, self.num_releases, "counting")

    def state_dict(self) -> dict[str, Any]:
        return {"releases": self.num_releases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_releases = state["releases"]


def _accounted() -> Any:
    if "accountant" not in inspect.signature(DifferentialPrivacyServerSideFixedClipping).parameters:
        pytest.skip("this Flower has no accountant")
    accountant: Any = Counting()
    return DifferentialPrivacyServerSideFixedClipping(FedAvg(**SAMPLING), 1.0, CLIP, NODES, accountant=accountant)


def test_an_accountant_counts_the_rounds_and_an_odd_weight_costs_its_sender() -> None:
    strategy = wrapped(_accounted())
    assert strategy.aggregate_train(1, answers(strategy, XS, L1Sign()))[0] is not None
    assert strategy.privacy_spent().num_releases == 1
    replies = answers(strategy, XS, L1Sign())
    replies[3].content["metrics"] = MetricRecord({"num-examples": 4})
    arrays, _ = strategy.aggregate_train(1, replies)
    assert arrays is None and strategy.reports[-1].skipped == "the inner strategy gave no result"  # Flower: all or nothing
    (rejection,) = strategy.reports[-1].rejected
    assert (rejection.reason, rejection.detail[:46]) == (Reason.METRICS, "metric 'num-examples' must be 3, as of most cl")
    assert strategy.privacy_spent().num_releases == 1


def test_a_checkpoint_keeps_what_was_spent() -> None:
    strategy, other = wrapped(_accounted()), wrapped(_accounted())
    strategy.aggregate_train(1, answers(strategy, XS, L1Sign()))
    state = stateful(strategy).state()
    restore_strategy(other, state)
    assert other.privacy_spent().num_releases == 1
    for bad in ("{}", "no", "[1]"):
        state["robustcomp.privacy-spent"] = ConfigRecord({"accountant": bad})
        with pytest.raises(ConfigurationError, match=r"robustcomp\.privacy-spent must hold the state of this accountant"):
            restore_strategy(other, state)
    del state["robustcomp.privacy-spent"]
    with pytest.raises(ConfigurationError, match=r"'robustcomp\.privacy-spent', a ConfigRecord, got none"):
        restore_strategy(other, state)
    other.strategy.accountant.state_dict = object
    with pytest.raises(ConfigurationError, match="accountant must have a state_dict"):
        stateful(other).state()
