"""A run that was stopped goes on to the same end, bit for bit; a folder of another run is refused."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedXgbBagging,
    FedYogi,
    Result,
    Strategy,
)

from benchmarks.parts.strategies import installed
from flwr_robustcomp import QSGD, Checkpointed, Decompressed, NormThreshold, RobustCompressed, Sign, to_arrays
from flwr_robustcomp.checkpoints import CHECKPOINT_FILE, HISTORY_FILE, read_snapshot, write_snapshot
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.compressors import Compressor
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import Adam, ByzFL, Momentum
from tests.checkpoints.kit import APP, NODES, SAMPLING, START, Stopped, client_app, play, told
from tests.optional import HAS_BYZFL

Q = QSGD(levels=2)


def _threshold(**options: Any) -> NormThreshold:
    return NormThreshold(compressor=Q, **{"step_size": 0.5, **SAMPLING, **options})


def _remembering() -> RobustCompressed:
    return RobustCompressed(compressor=Q, filters="norm-clipping+fools-gold", memory=0.7, **SAMPLING)


def _momentum() -> RobustCompressed:
    return RobustCompressed(compressor=Q, trim=1, filters="norm", step=Momentum(0.5, beta=0.8), **SAMPLING)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "momentum": _momentum,
    "memory": _remembering,
    "adam": lambda: RobustCompressed(compressor=Q, trim=1, filters="norm", step=Adam(0.1), **SAMPLING),
    "norm-threshold": _threshold,
    "behind Decompressed": lambda: Decompressed(FedAdam(eta=0.1, **SAMPLING), compressor=Q),
    "FedAvgM behind Decompressed": lambda: Decompressed(FedAvgM(server_momentum=0.8, **SAMPLING), compressor=Q),
    "FedYogi behind Decompressed": lambda: Decompressed(FedYogi(eta=0.1, **SAMPLING), compressor=Q),
    "FedAdagrad behind Decompressed": lambda: Decompressed(FedAdagrad(eta=0.1, **SAMPLING), compressor=Q),
    "FedMedian behind Decompressed": lambda: Decompressed(FedMedian(**SAMPLING), compressor=Q),
}
if HAS_BYZFL:
    STRATEGIES["ByzFL's centred clipping"] = lambda: ByzFL(
        compressor=Q, aggregator={"name": "CenteredClipping", "tau": 0.5}, pre={"name": "Bucketing", "s": 2}, seed=0, **SAMPLING
    )


CASES: dict[str, tuple[Callable[[], Strategy], Compressor]] = {name: (make, Q) for name, make in STRATEGIES.items()} | {
    sample.label: (functools.partial(sample.make, 1, **SAMPLING), sample.compressor)
    for sample in installed(besides=(ByzFL, NormThreshold, RobustCompressed))
}


@pytest.mark.parametrize("stop_at", [1, 4, 6])
@pytest.mark.parametrize(("make", "compressor"), CASES.values(), ids=CASES)
def test_a_stopped_run_goes_on_to_the_same_end(
    make: Callable[[], Strategy], compressor: Compressor, stop_at: int, tmp_path: Path
) -> None:
    def grid() -> InProcessGrid:
        return InProcessGrid(client_app(compressor), NODES)

    whole = told(play(make(), grid=grid()))
    assert whole[0], "a run that never moves shows nothing"
    with pytest.raises(Stopped):
        play(Checkpointed(make(), tmp_path), stop_at=stop_at, grid=grid())
    # Another seed, another grid, another strategy object: all that counts comes from the folder.
    assert told(play(Checkpointed(make(), tmp_path), seed=99, grid=grid())) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [HISTORY_FILE, CHECKPOINT_FILE]


def test_going_on_twice_is_going_on(tmp_path: Path) -> None:
    whole = told(play(_momentum()))
    for stop_at in (2, 3, 6):
        with pytest.raises(Stopped):
            play(Checkpointed(_momentum(), tmp_path), stop_at=stop_at, seed=None if stop_at > 2 else 0)
    assert told(play(Checkpointed(_momentum(), tmp_path), seed=7)) == whole


def test_the_object_that_was_stopped_can_itself_go_on(tmp_path: Path) -> None:
    whole, strategy = told(play(_momentum())), Checkpointed(_momentum(), tmp_path)
    grid = InProcessGrid(APP, NODES)
    with pytest.raises(Stopped):
        play(strategy, stop_at=3, grid=grid)
    # The nodes trained in round 3 already: their residuals too go back to the end of round 2.
    assert told(play(strategy, seed=1, grid=grid)) == whole


def test_a_run_that_ended_is_told_again_and_can_be_made_longer(tmp_path: Path) -> None:
    short = told(play(Checkpointed(_momentum(), tmp_path), rounds=4))
    assert told(play(Checkpointed(_momentum(), tmp_path), rounds=4, seed=5)) == short
    assert told(play(Checkpointed(_momentum(), tmp_path), rounds=6, seed=5)) == told(play(_momentum(), rounds=6))
    with pytest.raises(ConfigurationError, match="num_rounds must be at least the checkpoint's 6, got 5"):
        play(Checkpointed(_momentum(), tmp_path), rounds=5)


def test_a_sparser_checkpoint_repeats_the_rounds_since(tmp_path: Path) -> None:
    rounds: list[int] = []
    strategy = _threshold(on_round=lambda report: rounds.append(report.round_))
    with pytest.raises(Stopped):
        play(Checkpointed(strategy, tmp_path, every=2), stop_at=4)
    result = play(Checkpointed(strategy, tmp_path, every=2), rounds=5)
    assert rounds == [1, 2, 3, 4, 3, 4, 5]
    assert told(result) == told(play(_threshold(), rounds=5))
    found = read_snapshot(tmp_path / CHECKPOINT_FILE)
    assert found is not None and found.round_ == 5  # the last round, though 5 is odd


@pytest.mark.parametrize("lost", ["strategy", "random", "nodes"])
def test_everything_that_is_kept_matters(lost: str, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        play(Checkpointed(_momentum(), tmp_path), stop_at=4)
    path = tmp_path / CHECKPOINT_FILE
    found = read_snapshot(path)
    assert found is not None and found.round_ == 3
    if lost == "strategy":
        found.records["strategy"]["robustcomp.step"] = ArrayRecord()
    elif lost == "random":
        random.seed(3)
        found.random["python"] = [3, list(random.getstate()[1]), None]
    else:
        assert any(RESIDUAL.record in state for state in found.nodes.values())
        found.nodes.clear()
    write_snapshot(path, found)
    assert told(play(Checkpointed(_momentum(), tmp_path), seed=0))[0] != told(play(_momentum()))[0]


def test_the_apps_own_state_goes_along(tmp_path: Path) -> None:
    state = RecordDict({"best": ConfigRecord({"round": 2, "weights": b"\x00\xff"}), "model": to_arrays(START)})
    play(Checkpointed(_threshold(), tmp_path, app_state=state), rounds=1)
    found = RecordDict({"other": ConfigRecord({"x": 1})})
    play(Checkpointed(_threshold(), tmp_path, app_state=found), rounds=1)
    assert found == state


def test_another_run_strategy_or_model_is_refused_in_one_line(tmp_path: Path) -> None:
    play(Checkpointed(_threshold(), tmp_path, run="one"), rounds=1)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(ConfigurationError, match=r"checkpoint must be of this run \('two'\), got .* of 'one'$"):
        play(Checkpointed(_threshold(), tmp_path, run="two"))
    with pytest.raises(ConfigurationError, match=r"of this strategy \('RobustCompressed'\), got .* of 'NormThreshold'$"):
        play(Checkpointed(_momentum(), tmp_path, run="one"))
    with InProcessGrid(APP, NODES) as grid, pytest.raises(ConfigurationError, match=r"of this model .*'w \[3\]'.* of 'w \[6\]"):
        Checkpointed(_threshold(), tmp_path, run="one").start(grid, to_arrays({"w": torch.zeros(3)}))
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_an_unknown_strategy_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"strategy must be one with state\(\) .* FedAvg, .* got FedXgbBagging"):
        Checkpointed(FedXgbBagging(), tmp_path)
    with pytest.raises(ConfigurationError, match="strategy must be a Strategy, got 3"):
        Checkpointed(3, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="every must be an integer from 1, got 0"):
        Checkpointed(FedAvg(), tmp_path, every=0)


def test_somebodys_own_strategy_says_what_it_carries(tmp_path: Path) -> None:
    class Counting(FedAvg):
        count = 0

        def configure_train(self, *args: Any) -> Any:
            self.count += 1
            return super().configure_train(*args)

        def state(self) -> RecordDict:
            return RecordDict({"count": ConfigRecord({"n": self.count})})

        def restore(self, state: RecordDict) -> None:
            record = state["count"]
            assert isinstance(record, ConfigRecord)
            self.count = int(str(record["n"]))

    app = client_app()
    with pytest.raises(Stopped):
        play(Checkpointed(Decompressed(Counting(**SAMPLING), compressor=Q), tmp_path), stop_at=3)
    inner = Counting(**SAMPLING)
    play(Checkpointed(Decompressed(inner, compressor=Q), tmp_path), grid=InProcessGrid(app, NODES))
    assert inner.count == 6


def _start_of_1_43(
    self: Strategy,
    grid: Grid,
    initial_arrays: ArrayRecord,
    num_rounds: int = 3,
    timeout: float = 3600,
    train_config: ConfigRecord | None = None,
    evaluate_config: ConfigRecord | None = None,
    evaluate_fn: Any = None,
    should_stop: Any = None,
) -> Result:
    """Return the end of a run as Flower 1.43 does it, for a Flower that has no ``should_stop``."""
    result = Result(arrays=initial_arrays)
    if evaluate_fn:
        evaluate_fn(0, initial_arrays)
    for server_round in range(1, num_rounds + 1):
        sent = self.configure_train(server_round, result.arrays, train_config or ConfigRecord(), grid)
        arrays, _ = self.aggregate_train(server_round, grid.send_and_receive(sent, timeout=timeout))
        result.arrays = result.arrays if arrays is None else arrays
        sent = self.configure_evaluate(server_round, result.arrays, evaluate_config or ConfigRecord(), grid)
        self.aggregate_evaluate(server_round, grid.send_and_receive(sent, timeout=timeout))
        if evaluate_fn:
            evaluate_fn(server_round, result.arrays)
        if should_stop is not None and should_stop(server_round, result):
            break
    return result


def test_a_run_that_stops_early_keeps_its_last_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "should_stop" not in inspect.signature(Strategy.start).parameters:
        monkeypatch.setattr(Strategy, "start", _start_of_1_43)
    asked: list[tuple[int, list[int]]] = []

    def until_third(server_round: int, result: Result) -> bool:
        asked.append((server_round, sorted(result.train_metrics_clientapp)))
        return server_round == 3

    expected = play(_threshold(), rounds=6)
    with InProcessGrid(APP, NODES) as grid:
        random.seed(0)
        early = Checkpointed(_threshold(), tmp_path, every=5).start(
            grid, to_arrays(START), num_rounds=6, should_stop=until_third
        )
    found = read_snapshot(tmp_path / CHECKPOINT_FILE)
    assert found is not None and found.round_ == 3 and found.records["model"]["arrays"] == early.arrays
    with InProcessGrid(APP, NODES) as grid:
        whole = Checkpointed(_threshold(), tmp_path, every=5).start(
            grid, to_arrays(START), num_rounds=6, should_stop=until_third
        )
    assert asked == [(n, list(range(1, n + 1))) for n in range(1, 7)]
    assert whole.arrays == expected.arrays


def test_a_flower_without_early_stops_says_so(tmp_path: Path) -> None:
    if "should_stop" in inspect.signature(Strategy.start).parameters:
        pytest.skip("this Flower has should_stop")
    with (
        InProcessGrid(APP, NODES) as grid,
        pytest.raises(ConfigurationError, match=r"should_stop must be None with Flower 1\."),
    ):
        Checkpointed(_threshold(), tmp_path).start(grid, to_arrays(START), should_stop=lambda server_round, result: True)
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_a_run_without_evaluation_or_progress_keeps_its_model(tmp_path: Path) -> None:
    with InProcessGrid(APP, NODES) as grid:
        result = Checkpointed(NormThreshold(compressor=Sign(), norm="reported", **SAMPLING), tmp_path).start(
            grid, to_arrays(START), num_rounds=2
        )
    assert result.arrays == to_arrays(START)  # the clients' payloads are of another compressor
    assert sorted(result.train_metrics_clientapp) == [1, 2]


class _Deployed:
    """What a strategy sees of a grid in a deployment: no way to the states of nodes."""

    def __init__(self, grid: InProcessGrid) -> None:
        self.get_node_ids, self.send_and_receive = grid.get_node_ids, grid.send_and_receive


def test_nodes_that_keep_their_own_states_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grid = InProcessGrid(APP, NODES)
    with pytest.raises(Stopped):
        play(Checkpointed(_momentum(), tmp_path), stop_at=3, grid=grid)
    before = {node: state.copy() for node, state in grid.node_states().items()}
    deployed: Any = _Deployed(grid)
    with caplog.at_level("WARNING", logger="flwr"):
        Checkpointed(_momentum(), tmp_path).start(deployed, to_arrays(START), num_rounds=2)
    assert f"those of {NODES} nodes are left aside" in caplog.text
    assert grid.node_states() == before
    Checkpointed(_momentum(), tmp_path).start(deployed, to_arrays(START), num_rounds=3)
    found = read_snapshot(tmp_path / CHECKPOINT_FILE)
    assert found is not None and (found.round_, found.nodes) == (3, {})
