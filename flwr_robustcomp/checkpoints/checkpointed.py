"""A strategy whose run can stop after any round: everything that the next round depends on is kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from flwr_robustcomp.checkpoints.snapshot import CHECKPOINT_FILE, Snapshot, read_snapshot, write_snapshot
from flwr_robustcomp.checkpoints.strategy_state import name_of, restore_strategy, state_of
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.flower import LOG
from flwr_robustcomp.randomness import global_random_state, set_global_random_state

__all__ = ["Checkpointed", "KeepsNodeStates"]

_HISTORIES = ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp")


@runtime_checkable
class KeepsNodeStates(Protocol):
    """A grid whose nodes live and die with the server, so that their states belong in its checkpoint."""

    def node_states(self) -> dict[int, RecordDict]:
        """Return `Context.state` of every node by its id."""
        ...

    def restore_node_states(self, states: Mapping[int, RecordDict]) -> None:
        """Put states in the place of the nodes' own."""
        ...


class Checkpointed(Strategy):
    """Run a strategy with a checkpoint after its rounds; start again from the last one if there is one.

    Parameters
    ----------
    strategy : Strategy
        One of this package, FedAvg or a descendant, or any with ``state()`` and ``restore()``.
    folder : str or Path
        Of the checkpoint; made if it is missing.
    run : str
        What tells this run from others, such as a hash of its configuration; `start` refuses a folder of another run.
    every : int
        Rounds between checkpoints. The last round always leaves one.
    app_state : RecordDict, optional
        The ServerApp's own state, such as its `Context.state`; saved too, and when the run goes on, filled as it was.

    Raises
    ------
    ConfigurationError
        At construction for a bad parameter or a strategy whose state is not known.

    Notes
    -----
    Saved are the model, the round, the state of the strategy and of the global generators of Python and NumPy (from which
    Flower samples nodes), the histories that `start` returns, and on this package's own grids the states of all nodes. In a
    deployment nodes keep their states themselves; docs/checkpoints.md says for how long.

    A checkpoint is taken when a round has ended with the server's evaluation. A server that dies before that repeats the round.
    """

    def __init__(
        self,
        strategy: Strategy,
        folder: str | Path,
        *,
        run: str = "",
        every: int = 1,
        app_state: RecordDict | None = None,
    ) -> None:
        require(isinstance(strategy, Strategy), "strategy", strategy, "a Strategy")
        require(isinstance(every, int) and every >= 1, "every", every, "an integer from 1")
        state_of(strategy)
        self.strategy = strategy
        self.path = Path(folder) / CHECKPOINT_FILE
        self.run = run
        self.every = every
        self.app_state = RecordDict() if app_state is None else app_state
        self._done = 0
        self._result = Result()

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run as Flower's `start` does, from the checkpoint on if the folder holds one of this run.

        Returns
        -------
        Result
            Of the whole run, the rounds before the checkpoint included. ``arrays`` is the last model, also where no round
            changed it.

        Raises
        ------
        ConfigurationError
            If the folder holds a damaged checkpoint, or one of another run, strategy or model, or of more rounds.
        """
        found = read_snapshot(self.path)
        if found is not None:
            self._check(found, initial_arrays, num_rounds)
        self._result = Result(arrays=initial_arrays)
        self._done = 0 if found is None else found.round_
        if found is not None:
            self._go_on(found, grid)

        def end_round(counted: int, arrays: ArrayRecord) -> MetricRecord | None:
            server_round = self._done + counted
            if counted == 0 and found is not None:
                return None  # that round has had its evaluation
            metrics = evaluate_fn(server_round, arrays) if evaluate_fn else None
            if metrics is not None:
                self._result.evaluate_metrics_serverapp[server_round] = metrics
            self._result.arrays = arrays
            if server_round % self.every == 0 or server_round == num_rounds:
                self._save(server_round, grid)
            return metrics

        super().start(
            grid, self._result.arrays, num_rounds - self._done, timeout, train_config, evaluate_config, evaluate_fn=end_round
        )
        return self._result

    def summary(self) -> None:
        """Log where the checkpoint is, and the strategy's own configuration."""
        LOG.info("\t├──> Checkpoint: %s, every %d rounds", self.path, self.every)
        self.strategy.summary()

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask as the strategy does in this round of the whole run."""
        return self.strategy.configure_train(self._done + server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the strategy aggregate; remember its metrics."""
        arrays, metrics = self.strategy.aggregate_train(self._done + server_round, replies)
        if metrics is not None:
            self._result.train_metrics_clientapp[self._done + server_round] = metrics
        return arrays, metrics

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Ask as the strategy does in this round of the whole run."""
        return self.strategy.configure_evaluate(self._done + server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy aggregate; remember its metrics."""
        metrics = self.strategy.aggregate_evaluate(self._done + server_round, replies)
        if metrics is not None:
            self._result.evaluate_metrics_clientapp[self._done + server_round] = metrics
        return metrics

    def _check(self, found: Snapshot, initial_arrays: ArrayRecord, num_rounds: int) -> None:
        """Refuse a checkpoint that this run cannot have left."""
        strategy, model = name_of(self.strategy), _shapes(initial_arrays)
        for what, ours, theirs in (
            ("run", self.run, found.run),
            ("strategy", strategy, found.strategy),
            ("model", model, _shapes(_model(found))),
        ):
            if ours != theirs:
                raise ConfigurationError(
                    f"checkpoint must be of this {what} ({_short(ours)}), got {str(self.path)!r} of {_short(theirs)}"
                )
        require(num_rounds >= found.round_, "num_rounds", num_rounds, f"at least the checkpoint's {found.round_}")

    def _go_on(self, found: Snapshot, grid: Grid) -> None:
        """Put everything back as it was when the checkpoint was taken."""
        LOG.info("Going on after round %d of %s; Flower counts the rounds that are left from 1", found.round_, self.path)
        restore_strategy(self.strategy, found.records["strategy"])
        self.app_state.clear()
        self.app_state.update(found.records["app"])
        self._result.arrays = _model(found)
        for name in _HISTORIES:
            getattr(self._result, name).update({int(key): metrics for key, metrics in found.records[name].items()})
        if isinstance(grid, KeepsNodeStates):
            grid.restore_node_states(found.nodes)
        elif found.nodes:
            LOG.warning("Nodes of this grid keep their states themselves: those of %d nodes are left aside", len(found.nodes))
        set_global_random_state(found.random)

    def _save(self, server_round: int, grid: Grid) -> None:
        histories = {
            name: RecordDict({str(key): metrics for key, metrics in getattr(self._result, name).items()}) for name in _HISTORIES
        }
        records = {
            "model": RecordDict({"arrays": self._result.arrays}),
            "strategy": state_of(self.strategy),
            "app": self.app_state,
        }
        nodes = grid.node_states() if isinstance(grid, KeepsNodeStates) else {}
        write_snapshot(
            self.path,
            Snapshot(server_round, self.run, name_of(self.strategy), global_random_state(), records | histories, nodes),
        )


def _model(snapshot: Snapshot) -> ArrayRecord:
    record = snapshot.records["model"]["arrays"]
    if not isinstance(record, ArrayRecord):
        raise ConfigurationError(f"checkpoint must hold a model, got a {type(record).__name__}")
    return record


def _shapes(arrays: ArrayRecord) -> str:
    # Not the dtypes: Flower's means of float16 and of integers are wider than the model that they started from.
    return ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())


def _short(value: str, most: int = 120) -> str:
    return repr(value if len(value) <= most else value[:most] + "...")
