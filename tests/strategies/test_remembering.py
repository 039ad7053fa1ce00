"""A strategy with a memory: what filters see of it, who enters it, and how a checkpoint keeps it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord
from torch import Tensor

from flwr_robustcomp import Settings, to_arrays
from flwr_robustcomp.compressors import QSGD, Compressor, Drive, Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Filter, Matrix, OverTime, Spectral, Vectors
from flwr_robustcomp.spans import compress_spans, decompress_spans
from flwr_robustcomp.strategies import Momentum, RobustCompressed, remembering
from flwr_robustcomp.strategies.replies.screening import Update
from flwr_robustcomp.strategies.round import Round
from flwr_robustcomp.wire import to_arrays as record_of
from tests.strategies.rounds import MODEL, SAMPLING, answers, ask, q, updates

M = 9


class Watching(Filter):
    """Keeps everybody, and what it saw."""

    name = "watching"
    looks_at = ("history",)
    seen: ClassVar[list[Matrix]] = []

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        if not np.allclose(vectors.history, np.eye(len(vectors)), atol=1e-5):  # which `check_nodes` tries
            self.seen.append(vectors.history)
        return np.eye(len(vectors))


@pytest.fixture
def seen() -> list[Matrix]:
    Watching.seen.clear()
    return Watching.seen


def _strategy(compressor: Compressor, **options: Any) -> RobustCompressed:
    return RobustCompressed(**{"compressor": compressor, "filters": [Watching()], "memory": 0.5, **SAMPLING, **options})


def _play(strategy: RobustCompressed, xs: list[Tensor], compressor: Compressor) -> None:
    strategy.aggregate_train(1, answers(strategy, xs, compressor))


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [Drive(seed=4), L1Sign(), Identity()], ids=repr)
def test_filters_see_the_fading_means_of_what_was_sent(compressor: Compressor, granularity: Any, seen: list[Matrix]) -> None:
    strategy, sums = _strategy(compressor, granularity=granularity), np.zeros((M, 0))
    for number in range(3):
        xs = updates(M, seed=number)
        strategy.aggregate_train(1, answers(strategy, xs, compressor, granularity=granularity))
        if granularity == "model":  # `q` packs the whole
            x = np.stack([q(x, compressor, i).double().numpy() for i, x in enumerate(xs)])
            sums = x if number == 0 else 0.5 * sums + x
            mean = sums / (2 - 0.5**number)
            np.testing.assert_allclose(seen[-1], mean @ mean.T, rtol=1e-5, atol=1e-4)
    assert len(seen) == 3 and strategy.reports[-1].kept == tuple(range(1000, 1000 + M))


def test_rotations_that_differ_from_round_to_round_add_up_in_the_basis_of_the_model() -> None:
    xs, strategy = updates(M), _strategy(Drive(), memory=0.9)
    packing, layout, x, bodies = strategy.packing, strategy.packing.layout(MODEL), torch.zeros(M, 0), []
    for number in (1, 2):
        spans = packing.spans(layout, round_=number)
        payloads = [compress_spans(one, spans, None) for one in xs]
        sent = torch.stack([decompress_spans(one, spans, torch.float64) for one in payloads])
        x = sent if number == 1 else 0.9 * x + sent
        bodies.append(payloads[0][0].body)
        messages = ask(strategy, M)
        replies = [Update(messages[i], 1000 + i, tuple(one), {}, None, {}) for i, one in enumerate(payloads)]
        history = strategy.remember(Round(number, packing, layout, spans, MODEL, replies, [], strategy.policy))
    assert bodies[0] != bodies[1] and history is not None
    np.testing.assert_allclose(history(), (x @ x.T).numpy() / 1.9**2, rtol=1e-5, atol=1e-4)


def test_a_large_model_is_sketched_by_one_map_in_all_rounds(monkeypatch: pytest.MonkeyPatch, seen: list[Matrix]) -> None:
    monkeypatch.setattr(remembering, "_SIZE", 5)
    strategy, xs = _strategy(Identity(), seed=3), updates(M)
    for _ in range(3):
        _play(strategy, xs, Identity())
    assert strategy.memory is not None and {one.size for one in strategy.memory.sums.values()} == {5}
    np.testing.assert_allclose(seen[2], seen[0], rtol=1e-9)  # the mean of three equal sketches
    other = _strategy(Identity(), seed=4)
    _play(other, xs, Identity())
    assert not np.allclose(seen[3], seen[0])


def test_who_is_stopped_by_the_screen_does_not_enter_and_fades(seen: list[Matrix]) -> None:
    strategy, xs = _strategy(Identity()), updates(M)
    _play(strategy, xs, Identity())
    _play(strategy, [1e9 * xs[0], *xs[1:]], Identity())
    assert strategy.memory is not None and seen[1].shape == (M - 1, M - 1)
    assert strategy.memory.weights[1000] == 0.5 and strategy.memory.weights[1001] == 1.5
    np.testing.assert_allclose(strategy.memory.sums[1000], 0.5 * xs[0].double().numpy())


def test_a_node_that_nobody_knows_is_seen_by_its_own_round(seen: list[Matrix]) -> None:
    strategy, xs = _strategy(Identity()), updates(M)
    strategy.aggregate_train(1, answers(strategy, xs, Identity())[1:])
    _play(strategy, xs, Identity())
    assert seen[1][0, 0] == pytest.approx(float(xs[0].double().square().sum()))


def test_colluders_that_hide_in_each_round_are_dropped_after_some() -> None:
    rng = np.random.default_rng(0)
    model = {"w": torch.zeros(300)}
    drift = torch.from_numpy(rng.standard_normal(300)).float() * 0.45

    def play(**options: Any) -> tuple[int, ...]:
        strategy = RobustCompressed(compressor=Identity(), trim=4, **options, **SAMPLING)
        noise = np.random.default_rng(1)
        for number in range(1, 16):
            xs = [torch.from_numpy(noise.standard_normal(300)).float() for _ in range(20)]
            xs[:4] = [0.9 * x + drift for x in xs[:4]]
            strategy.aggregate_train(number, answers(strategy, xs, Identity(), model=model))
        return tuple(strategy.reports[-1].trimmed)

    assert play(filters="spectral") == ()
    assert play(filters="over-time:spectral", memory=0.9) == (1000, 1001, 1002, 1003)


def test_names_and_settings() -> None:
    strategy = RobustCompressed(compressor=L1Sign(), trim=2, filters="norm-clipping+over-time:spectral", memory=0.9)
    assert strategy.filters[1] == OverTime(2, Spectral()) and strategy.shows() == ("signs", "history")
    made = Settings.from_run_config(
        {"robustcomp.strategy.filters": "norm-clipping+over-time:directions", "robustcomp.strategy.memory": 0.5}
    ).make_strategy()
    assert isinstance(made, RobustCompressed) and made.memory is not None and made.memory.keep == 0.5
    off = RobustCompressed(compressor=L1Sign(), memory=0)
    assert off.memory is None and "history" not in off.shows()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"memory": 1.0}, r"memory must be in \(0, 1\), or None or 0 for none, got 1.0"),
        ({"memory": -0.1}, r"memory must be in \(0, 1\), or None or 0 for none, got -0.1"),
        ({"memory": float("nan")}, r"memory must be in \(0, 1\), .*, got nan"),
        ({"memory": True}, r"memory must be in \(0, 1\), .*, got True"),
        ({"memory": "0.9"}, r"memory must be in \(0, 1\), .*, got '0.9'"),
        ({"memory": None}, "filters must be one that works without history, which is not set up, got 'watching'"),
        ({"memory": 0}, "filters must be one that works without history, which is not set up, got 'watching'"),
        ({"filters": "spectral"}, "memory must be left out where no filter looks at histories, as fools-gold and over-time do"),
        ({"filters": "over-time:nothing"}, "filters must be one of adaptive-clipping, .*, got 'nothing'"),
        ({"filters": "over-time:fools-gold"}, "filter must be one that looks at inner products alone, got 'fools-gold'"),
    ],
)
def test_bad_configurations_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        _strategy(L1Sign(), **options)


def _kept() -> RobustCompressed:
    strategy = _strategy(QSGD(levels=2), seed=6)
    for number in range(3):
        _play(strategy, updates(M, seed=number), QSGD(levels=2))
    return strategy


def test_a_checkpoint_keeps_the_memory_and_its_seed(seen: list[Matrix]) -> None:
    kept, back = _kept(), _strategy(QSGD(levels=2))
    back.check_state(kept.state(), to_arrays(MODEL))
    back.restore(kept.state())
    for strategy in (kept, back):
        _play(strategy, updates(M, seed=9), QSGD(levels=2))
    assert np.array_equal(seen[-1], seen[-2]) and back.seed == kept.seed == 6


def test_a_checkpoint_from_before_begins_an_empty_memory() -> None:
    state, back = _kept().state(), _kept()
    del state["robustcomp.memory"]
    back.check_state(state, to_arrays(MODEL))
    back.restore(state)
    assert back.memory is not None and len(back.memory) == 0 and back.memory.keep == 0.5


def test_a_strategy_without_a_memory_has_no_record_of_one_and_refuses_one() -> None:
    plain = RobustCompressed(compressor=QSGD(levels=2), step=Momentum(), **SAMPLING)
    assert "robustcomp.memory" not in plain.state()
    with pytest.raises(ConfigurationError, match=r"memory must be set where a checkpoint has 'robustcomp\.memory', got None"):
        plain.restore(_kept().state())


ROW = torch.ones(1 + sum(t.numel() for t in MODEL.values()), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "record", "named"),
    [
        ("robustcomp.memory", ConfigRecord(), "'robustcomp.memory' must be an ArrayRecord, got ConfigRecord"),
        ("robustcomp.memory", record_of({"1": ROW[:4]}), "'robustcomp.memory' must be as a checkpoint keeps it: what is rem"),
        ("robustcomp.memory", record_of({"1": ROW * torch.inf}), "'robustcomp.memory' must be .* got 'NaN or inf'"),
        ("robustcomp.memory", record_of({"one": ROW}), "'robustcomp.memory' must be .* got 'one'"),
        ("robustcomp.sketch", ArrayRecord(), "'robustcomp.sketch' must be there where 'robustcomp.memory' is, got none"),
        ("robustcomp.sketch", ConfigRecord({}), "seed of 'robustcomp.sketch' must be an integer"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused_with_nothing_changed(name: str, record: Any, named: str) -> None:
    state, strategy = _kept().state(), _kept()
    before = dict(strategy.state())
    strategy.check_state(state, to_arrays(MODEL))
    state[name] = record
    with pytest.raises(ConfigurationError, match=named) as caught:
        strategy.check_state(state, to_arrays(MODEL))
    assert str(caught.value).isprintable()
    if name == "robustcomp.sketch" or record != record_of({"1": ROW[:4]}):  # without a model, any one length will do
        with pytest.raises(ConfigurationError, match=named):
            strategy.restore(state)
        assert dict(strategy.state()) == before
