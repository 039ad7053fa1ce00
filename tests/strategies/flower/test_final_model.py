"""A run returns a model, whatever its rounds did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from flwr_robustcomp import CompressionMod, from_arrays, to_arrays
from flwr_robustcomp.compressors import L1Sign, Sign
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import CompressedStrategy, NormThreshold, RobustCompressed, SignMajorityVote
from tests.apps import app, minus
from tests.strategies.rounds import MODEL, SAMPLING

STEP = {name: tensor / 100 for name, tensor in MODEL.items()}
MAKERS: dict[str, Callable[[], CompressedStrategy]] = {
    "norm-threshold": lambda: NormThreshold(compressor=L1Sign(), **SAMPLING),
    "robust-compressed": lambda: RobustCompressed(compressor=L1Sign(), **SAMPLING),
    "majority-vote": lambda: SignMajorityVote(**SAMPLING),
}


def _app(compressor: Any, good_rounds: int) -> ClientApp:
    """Return an app that trains for some rounds, and whose nodes then cannot be reached."""

    def lost(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        config = message.content["config"]
        if isinstance(config, ConfigRecord) and int(str(config["server-round"])) > good_rounds:
            return Message(Error(5, "node unavailable"), reply_to=message)
        return reply

    return app(lambda w: minus(w, STEP), [lost, CompressionMod(compressor)])


def _same(one: ArrayRecord, other: dict[str, torch.Tensor]) -> bool:
    found = from_arrays(one)
    return found.keys() == other.keys() and all(torch.equal(found[name], other[name]) for name in other)


@pytest.mark.parametrize("name", MAKERS)
def test_without_a_good_round_it_is_the_initial_model(name: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = MAKERS[name]()
    with caplog.at_level("WARNING", logger="flwr"):
        grid = InProcessGrid(_app(strategy.packing.compressor, 0), 4)
        result = strategy.start(grid, to_arrays(MODEL), num_rounds=3)
    assert _same(result.arrays, MODEL) and len(strategy.reports) == 3
    assert "the run returns the initial one" in caplog.text


@pytest.mark.parametrize("name", MAKERS)
def test_after_lost_rounds_it_is_the_last_good_one(name: str) -> None:
    def run(rounds: int) -> Result:
        strategy = MAKERS[name]()
        return strategy.start(InProcessGrid(_app(strategy.packing.compressor, 2), 4), to_arrays(MODEL), num_rounds=rounds)

    good = from_arrays(run(2).arrays)
    assert not _same(to_arrays(good), MODEL) and _same(run(4).arrays, good)


class Mine(NormThreshold):
    """A user's own strategy, which saves and logs around Flower's loop."""

    saved: ArrayRecord

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, *args: Any, **options: Any) -> Result:
        result = super().start(grid, initial_arrays, num_rounds, *args, **options)
        self.saved = result.arrays
        return result


def test_a_start_of_the_users_own_works() -> None:
    mine = Mine(compressor=L1Sign(), **SAMPLING)
    seen: list[int] = []

    def evaluate(round_: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(round_)
        return MetricRecord({"round": round_})

    mine.start(InProcessGrid(_app(L1Sign(), 0), 4), to_arrays(MODEL), num_rounds=2, evaluate_fn=evaluate)
    assert _same(mine.saved, MODEL) and seen == [0, 1, 2]


def test_options_of_later_flowers_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.serverapp.strategy import Strategy

    given: dict[str, Any] = {}

    def start(self: Strategy, *args: Any, **options: Any) -> Result:
        given.update(options)
        return Result()

    monkeypatch.setattr(Strategy, "start", start)
    result = SignMajorityVote(compressor=Sign(), **SAMPLING).start(
        InProcessGrid(ClientApp(), 2), to_arrays(MODEL), should_stop=len
    )
    assert given == {"should_stop": len} and _same(result.arrays, MODEL)
