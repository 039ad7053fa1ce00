"""A strategy whose run can stop after any round: everything that the next round depends on is kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from flwr_robustcomp.checkpoints.history import HISTORIES, HISTORY_FILE, Entry, Mark, append_history
from flwr_robustcomp.checkpoints.lock import locked
from flwr_robustcomp.checkpoints.node_states import KeepsNodeStates
from flwr_robustcomp.checkpoints.resumption import Resumption, find_resumption
from flwr_robustcomp.checkpoints.snapshot import CHECKPOINT_FILE, Snapshot, write_snapshot
from flwr_robustcomp.checkpoints.strategy_state import name_of
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.flower import LOG, start_options
from flwr_robustcomp.randomness import global_random_state
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.flower.stateful import stateful

__all__ = ["Checkpointed", "KeepsNodeStates"]


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

    Examples
    --------
    >>> from flwr_robustcomp import Checkpointed, L1Sign, NormThreshold
    >>> strategy = Checkpointed(NormThreshold(compressor=L1Sign()), "checkpoints", every=5)
    >>> strategy.path.name
    'checkpoint.npz'
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
        require(isinstance(every, int) and not isinstance(every, bool) and every >= 1, "every", every, "an integer from 1")
        stateful(strategy).state()
        self.strategy = strategy
        self.path = Path(folder) / CHECKPOINT_FILE
        self.run = run
        self.every = every
        self.app_state = RecordDict() if app_state is None else app_state
        self._begin(ArrayRecord())

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        should_stop: Callable[[int, Result], bool] | None = None,
    ) -> Result:
        """Run as Flower's `start` does, from the checkpoint on if the folder holds one of this run.

        ``should_stop`` is of Flower 1.43. It sees the round and the result of the whole run; the round in which it stops leaves
        a checkpoint.

        Returns
        -------
        Result
            Of the whole run, the rounds before the checkpoint included. ``arrays`` is the last model, also where no round
            changed it.

        Raises
        ------
        ConfigurationError
            If the folder holds a damaged checkpoint, or one of another run, strategy or model, or of more rounds; nothing is
            changed then. If another run is at work there, or the folder can no longer be written. If ``should_stop`` is given
            to a Flower that has none.
        """
        more = start_options(None if should_stop is None else self._stops(grid, should_stop))
        with locked(self.path.parent):
            found = find_resumption(
                self.path, run=self.run, strategy=self.strategy, initial=initial_arrays, num_rounds=num_rounds
            )
            if found is not None:
                round_ = found.snapshot.round_
                LOG.info("Going on after round %d of %s; Flower counts the rounds that are left from 1", round_, self.path)
                found.put_in_place(self.strategy, grid, self.app_state)
            self._begin(initial_arrays)
            if found is not None:
                self._go_on(found)
            if isinstance(outgoing := getattr(self.strategy, "outgoing", None), Outgoing):
                outgoing.begin(timeout)  # the strategy's own `start` does not run
            left = num_rounds - self._done
            hook = self._hook(grid, num_rounds, evaluate_fn, evaluated=found is not None)
            super().start(grid, self._result.arrays, left, timeout, train_config, evaluate_config, evaluate_fn=hook, **more)
        return self._result

    def note(self, value: Any) -> None:
        """Keep a JSON value with the round that runs; to be called from ``evaluate_fn``.

        A list in ``app_state`` that grows by each round is written anew by each; a note is written once.

        Raises
        ------
        ConfigurationError
            If JSON cannot hold it.
        """
        try:
            self._notes.append(json.loads(json.dumps(value)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"note must be a JSON value, got a {type(value).__name__}: {error}") from error

    @property
    def notes(self) -> list[Any]:
        """Return what was noted in the whole run, the rounds before the checkpoint included."""
        return list(self._notes)

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

    def _begin(self, initial_arrays: ArrayRecord) -> None:
        """Forget what an earlier `start` of this object left."""
        self._done = 0
        self._result = Result(arrays=initial_arrays)
        self._notes: list[Any] = []
        self._entered = 0  # so many notes are in entries
        self._unsaved: list[Entry] = []
        self._mark = Mark()

    def _go_on(self, found: Resumption) -> None:
        """Remember the rounds before the checkpoint."""
        self._done = found.snapshot.round_
        self._result.arrays = found.model
        for entry in found.rounds:
            for name, metrics in entry.metrics.items():
                getattr(self._result, name)[entry.round_] = metrics
            self._notes.extend(entry.notes)
        self._entered = len(self._notes)
        self._mark = found.snapshot.history
        self._unsaved.extend(found.snapshot.rounds)  # none, but those of format 1, which had no history beside it

    def _hook(
        self,
        grid: Grid,
        num_rounds: int,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
        evaluated: bool,
    ) -> Callable[[int, ArrayRecord], MetricRecord | None]:
        """Return what Flower calls last in a round: the evaluation, and then the checkpoint."""

        def end_round(counted: int, arrays: ArrayRecord) -> MetricRecord | None:
            server_round = self._done + counted
            if counted == 0 and evaluated:
                return None  # the round of the checkpoint has had its evaluation
            metrics = evaluate_fn(server_round, arrays) if evaluate_fn else None
            if metrics is not None:
                self._result.evaluate_metrics_serverapp[server_round] = metrics
            self._result.arrays = arrays
            self._enter(server_round)
            if server_round % self.every == 0 or server_round == num_rounds:
                self._save(server_round, grid)
            return metrics

        return end_round

    def _stops(self, grid: Grid, should_stop: Callable[[int, Result], bool]) -> Callable[[int, Result], bool]:
        """Return what Flower asks after a round; it keeps the round in which the run stops."""

        def stop(counted: int, _: Result) -> bool:
            server_round = self._done + counted
            if not should_stop(server_round, self._result):
                return False
            if self._unsaved:
                self._save(server_round, grid)
            return True

        return stop

    def _enter(self, server_round: int) -> None:
        """Enter what a round added."""
        metrics = {name: of[server_round] for name in HISTORIES if server_round in (of := getattr(self._result, name))}
        self._unsaved.append(Entry(server_round, metrics, tuple(self._notes[self._entered :])))
        self._entered = len(self._notes)

    def _save(self, server_round: int, grid: Grid) -> None:
        # The history first: until a snapshot names the new lines, they are not part of the run.
        try:
            mark = append_history(self.path.with_name(HISTORY_FILE), self._mark, self._unsaved)
        except OSError as error:
            folder = str(self.path.parent)
            raise ConfigurationError(f"checkpoint must be a writable folder, got {folder!r}: {error.strerror}") from error
        records = {
            "model": RecordDict({"arrays": self._result.arrays}),
            "strategy": stateful(self.strategy).state(),
            "app": self.app_state,
        }
        nodes = grid.node_states() if isinstance(grid, KeepsNodeStates) else {}
        random = global_random_state()
        write_snapshot(self.path, Snapshot(server_round, self.run, name_of(self.strategy), random, records, nodes, mark))
        self._mark = mark
        self._unsaved.clear()
