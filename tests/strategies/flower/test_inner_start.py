"""An inner strategy keeps its own `start`, methods and attributes behind `Decompressed`."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy

from flwr_robustcomp import Checkpointed, CompressionMod, Decompressed, NormThreshold, to_arrays
from flwr_robustcomp.compressors import Identity, L1Sign
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies.flower.inner import attributes
from flwr_robustcomp.strategies.flower.stateful import stateful
from flwr_robustcomp.strategies.nodes.history import LEDGER_RECORD
from tests.apps import app, gaussian_model

MODEL = gaussian_model(0)


class Loop(FedAvg):
    """Somebody's way to run: a loop of its own, which saves, and helpers that the app calls before it."""

    folder: str = ""
    calls = 0

    def set_save_path(self, folder: str) -> None:
        self.folder = folder

    def configure_train(self, *args: Any) -> Any:
        self.calls += 1
        return super().configure_train(*args)

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, *args: Any, **kwargs: Any) -> Result:
        self.saved: list[int] = []
        result, arrays = Result(), initial_arrays
        self.summary()
        for round_ in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(round_, arrays, ConfigRecord(), grid), timeout=5)
            new, metrics = self.aggregate_train(round_, replies)
            if new is not None:
                result.arrays = arrays = new
                self.saved.append(round_)
            if metrics is not None:
                result.train_metrics_clientapp[round_] = metrics
            told = self.aggregate_evaluate(
                round_, grid.send_and_receive(self.configure_evaluate(round_, arrays, ConfigRecord(), grid))
            )
            if told is not None:
                result.evaluate_metrics_clientapp[round_] = told
        return result


class Saving(Loop): ...


class SavingThreshold(Loop, NormThreshold):
    """The same on packed replies."""


class Super(FedAvg):
    """Another, whose `start` does something of its own around Flower's."""

    done = False

    def start(self, *args: Any, **kwargs: Any) -> Result:
        result = super().start(*args, **kwargs)
        self.done = True
        return result


def _grid(nodes: int = 4) -> InProcessGrid:
    client = app(lambda w: {name: t - 0.5 for name, t in w.items()}, [CompressionMod(L1Sign())])
    return InProcessGrid(client, nodes)


@pytest.mark.parametrize("kind", [FedAvg, Saving, Super])
def test_every_start_trains_on_packed_replies(kind: type[FedAvg]) -> None:
    strategy = Decompressed(kind(), compressor=L1Sign())
    with _grid() as grid:
        result = strategy.start(grid, to_arrays(MODEL), num_rounds=2)
    after = result.arrays.to_torch_state_dict()
    assert torch.allclose(after["weight"], MODEL["weight"] - 1.0, atol=1e-5)
    assert [report.round_ for report in strategy.reports] == [1, 2]
    assert result.train_metrics_clientapp[2]["robustcomp.kept"] == 4
    assert result.evaluate_metrics_clientapp[2]["robustcomp.evaluated"] == 4
    assert result.evaluate_metrics_clientapp[2]["loss"] == 0.5


def test_a_descendant_of_ours_keeps_its_own_start() -> None:
    strategy = SavingThreshold(compressor=L1Sign(), trim=1)
    strategy.set_save_path("models")
    with _grid() as grid:
        result = strategy.start(grid, to_arrays(MODEL), num_rounds=2)
    assert (strategy.saved, strategy.calls, strategy.folder) == ([1, 2], 2, "models")
    assert torch.allclose(result.arrays.to_torch_state_dict()["weight"], MODEL["weight"] - 1.0, atol=1e-5)
    assert [len(report.trimmed) for report in strategy.reports] == [1, 1]


def test_what_the_inner_start_and_its_helpers_leave_is_found() -> None:
    inner = Saving()
    strategy = Decompressed(inner, compressor=L1Sign())
    strategy.set_save_path("models")
    with _grid() as grid:
        strategy.start(grid, to_arrays(MODEL), num_rounds=2)
    assert (inner.folder, strategy.folder, strategy.saved, strategy.calls) == ("models", "models", [1, 2], 2)
    assert set(vars(inner)) & {"configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate"} == set()
    around = Super()
    strategy = Decompressed(around, compressor=L1Sign())
    with _grid() as grid:
        strategy.start(grid, to_arrays(MODEL), 1)
    assert around.done and strategy.done


def test_a_start_that_raises_gives_the_methods_back() -> None:
    class Raising(Super):
        def aggregate_train(self, *args: Any) -> Any:
            raise RuntimeError("mine")

    inner = Raising()
    with _grid() as grid, pytest.raises(RuntimeError, match="mine"):
        Decompressed(inner, compressor=L1Sign()).start(grid, to_arrays(MODEL), 1)
    assert "aggregate_train" not in vars(inner) and "summary" not in vars(inner)
    assert "train_metrics_aggr_fn" in vars(inner) and "_check_and_log_replies" not in vars(inner)


def test_a_run_that_no_round_moved_returns_the_initial_model() -> None:
    client = app(lambda w: w, [CompressionMod(Identity())])
    for kind in (FedAvg, Super):
        strategy = Decompressed(kind(fraction_train=0.0, fraction_evaluate=0.0), compressor=L1Sign())
        with InProcessGrid(client, 3) as grid:
            result = strategy.start(grid, to_arrays(MODEL), num_rounds=1)
        assert result.arrays == to_arrays(MODEL)


def test_attributes_belong_to_the_inner_strategy_unless_they_are_ours() -> None:
    inner = Saving()
    strategy = Decompressed(inner, compressor=L1Sign())
    strategy.min_train_nodes = 7
    strategy.use_wandb = True
    strategy.step_size = 0.5
    assert (inner.min_train_nodes, vars(inner)["use_wandb"]) == (7, True)
    assert strategy.step_size == 0.5 and not hasattr(inner, "step_size")
    with pytest.raises(AttributeError, match="no_such_thing"):
        strategy.no_such_thing  # noqa: B018


def test_it_is_copied_pickled_and_kept_like_any_object() -> None:
    strategy = Decompressed(FedAvg(min_train_nodes=3), compressor=L1Sign())
    for other in (copy.copy(strategy), copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert isinstance(other, Decompressed) and isinstance(other, Strategy)
        assert other.min_train_nodes == 3 and other.packing.compressor == L1Sign()


def test_a_checkpoint_keeps_the_ledger_beside_what_the_inner_strategy_says() -> None:
    class Told(FedAvg):
        def state(self) -> RecordDict:
            return RecordDict({"mine": ConfigRecord({"n": 1})})

        def restore(self, state: RecordDict) -> None: ...

    assert set(stateful(Decompressed(Told(), compressor=L1Sign())).state()) == {"mine", LEDGER_RECORD}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormThreshold(compressor=L1Sign()), "NormThreshold reads packed ones: use it as it is"),
        (lambda: Decompressed(FedAvg(), compressor=L1Sign()), "Decompressed reads packed ones"),
        (lambda: Checkpointed(FedAvg(), Path("x")), r"Checkpointed\(Decompressed\(\.\.\.\)\), got it the other way round"),
    ],
)
def test_what_cannot_stand_inside_is_refused_with_the_right_order(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Decompressed(make(), compressor=L1Sign())


def test_attributes_are_put_back() -> None:
    class Thing:
        size = 1
        name: str

    thing = Thing()
    thing.name = "a"
    with pytest.raises(KeyError), attributes(thing, {"size": 2, "name": "b"}):
        assert (thing.size, thing.name) == (2, "b")
        raise KeyError
    assert vars(thing) == {"name": "a"} and thing.size == 1
