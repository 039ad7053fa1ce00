"""A checkpoint that a run can go on from: all of it checked and built before anything of the run is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from flwr_robustcomp import wire
from flwr_robustcomp.checkpoints.fields import damaged
from flwr_robustcomp.checkpoints.history import HISTORY_FILE, Entry, read_history
from flwr_robustcomp.checkpoints.node_states import KeepsNodeStates
from flwr_robustcomp.checkpoints.snapshot import Snapshot, read_snapshot
from flwr_robustcomp.checkpoints.strategy_state import name_of, restore_strategy
from flwr_robustcomp.errors import ConfigurationError, WireError, require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.randomness import check_global_random_state, set_global_random_state
from flwr_robustcomp.strategies.flower.stateful import check_state, stateful

__all__ = ["Resumption", "find_resumption"]


@dataclass(frozen=True)
class Resumption:
    """What a run goes on from.

    Attributes
    ----------
    path : Path
        Of the snapshot.
    snapshot : Snapshot
        As it was read.
    model : ArrayRecord
        After its round.
    rounds : sequence of Entry
        What the rounds until then added to the history.
    """

    path: Path
    snapshot: Snapshot
    model: ArrayRecord
    rounds: Sequence[Entry]

    def put_in_place(self, strategy: Strategy, grid: Grid, app_state: RecordDict) -> None:
        """Put back all that the checkpoint keeps, or nothing.

        Raises
        ------
        ConfigurationError
            If the strategy refuses its state; strategy, nodes, generators and ``app_state`` are then as they were.
        """
        found, before = self.snapshot, stateful(strategy).state()
        # First what can fail. The generators were checked; records that were built can be copied.
        try:
            restore_strategy(strategy, found.records["strategy"])
        except Exception as error:  # a strategy of somebody's own may raise anything
            raise damaged(self.path, error) from error
        if isinstance(grid, KeepsNodeStates):
            try:
                grid.restore_node_states(found.nodes)
            except BaseException:  # workers that died
                restore_strategy(strategy, before)
                raise
        elif found.nodes:
            LOG.warning("Nodes of this grid keep their states themselves: those of %d nodes are left aside", len(found.nodes))
        app_state.clear()
        app_state.update(found.records["app"])
        set_global_random_state(found.random)


def find_resumption(path: Path, *, run: str, strategy: Strategy, initial: ArrayRecord, num_rounds: int) -> Resumption | None:
    """Return what a run goes on from; None where the folder holds no checkpoint. Nothing is changed.

    Raises
    ------
    ConfigurationError
        If the checkpoint is damaged, of another run, strategy or model, or of more rounds.
    """
    found = read_snapshot(path)
    if found is None:
        return None
    try:
        model = _model(found)
        check_global_random_state(found.random)
    except ValueError as error:
        raise damaged(path, error) from error
    for what, ours, theirs in (
        ("run", run, found.run),
        ("strategy", name_of(strategy), found.strategy),
        ("model", _shapes(initial), _shapes(model)),
    ):
        if ours != theirs:
            raise ConfigurationError(
                f"checkpoint must be of this {what} ({_short(ours)}), got {str(path)!r} of {_short(theirs)}"
            )
    _check_model(path, model, initial)
    require(num_rounds >= found.round_, "num_rounds", num_rounds, f"at least the checkpoint's {found.round_}")
    rounds = [*found.rounds, *read_history(path.with_name(HISTORY_FILE), found.history)]
    if rounds and (rounds[-1].round_ > found.round_ or (found.history.lines and rounds[-1].round_ != found.round_)):
        raise damaged(path, ValueError(f"it is of round {found.round_}, its history of {rounds[-1].round_}"))
    try:
        check_state(strategy, found.records["strategy"], model)
    except Exception as error:  # a strategy of somebody's own may raise anything
        raise damaged(path, error) from error
    return Resumption(path, found, model, rounds)


def _model(snapshot: Snapshot) -> ArrayRecord:
    for name in ("model", "strategy", "app"):
        if name not in snapshot.records:
            raise ValueError(f"records must have {name!r}")
    model = snapshot.records["model"].get("arrays")
    if not isinstance(model, ArrayRecord):
        raise ValueError("records must have a model, an ArrayRecord 'arrays'")
    return model


def _check_model(path: Path, model: ArrayRecord, initial: ArrayRecord) -> None:
    """Refuse arrays that cannot be read where those of the run can; other kinds of arrays are the strategy's to read."""
    for name, array in model.items():
        try:
            wire.read_dense(initial[name])
        except WireError:
            continue
        try:
            wire.read_dense(array, tuple(array.shape))
        except WireError as error:
            raise damaged(path, ValueError(f"array {name!r} of the model: {error}")) from error


def _shapes(arrays: ArrayRecord) -> str:
    # Not the dtypes: Flower's means of float16 and of integers are wider than the model that they started from.
    return ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())


def _short(value: str, most: int = 120) -> str:
    return repr(value if len(value) <= most else value[:most] + "...")
