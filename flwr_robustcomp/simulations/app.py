"""The ServerApp and ClientApp of a scenario: the same two on our grids, under `flwr run` and in a deployment."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from flwr_robustcomp import wire
from flwr_robustcomp.checkpoints import Checkpointed
from flwr_robustcomp.clients import poison_of
from flwr_robustcomp.clients.node import round_of
from flwr_robustcomp.errors import require
from flwr_robustcomp.filters import VectorSpread
from flwr_robustcomp.simulations.attacks.colluding_grid import ColludingGrid
from flwr_robustcomp.simulations.engines.batch import BatchClientApp, train_batch
from flwr_robustcomp.simulations.problems import StampedProblem, true_labels
from flwr_robustcomp.simulations.records.record import Recorder, RoundRecord
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import byzantine_partitions, check_components, make_strategy, setup_of

__all__ = ["CLIENT_APP", "client_app", "serve", "server_app"]

CLIENT_APP = "flwr_robustcomp.simulations.app:client_app"


def _scenario_mods(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Run the mods that the run config's scenario asks for, the first outermost, as Flower would a list of mods."""
    for mod in reversed(setup_of(context.run_config).mods):
        call_next = functools.partial(_call_mod, mod, call_next)
    return call_next(message, context)


def _call_mod(mod: Mod, call_next: ClientAppCallable, message: Message, context: Context) -> Message:
    return mod(message, context, call_next)


client_app = BatchClientApp(train_batch)
server_app = ServerApp()


@client_app.train(mods=[_scenario_mods])
def train(message: Message, context: Context) -> Message:
    """Reply with what the node learns from the model received: a gradient, or new weights."""
    problem = setup_of(context.run_config).problem
    partition = int(context.node_config["partition-id"])
    record = message.content["arrays"]
    model = wire.shared_tensors(record) if isinstance(record, ArrayRecord) else {}
    found = problem.train(partition, model, poison_of(message) or true_labels, round_of(message))
    metrics = MetricRecord({"num-examples": problem.num_examples(partition)})
    return Message(RecordDict({"arrays": wire.to_arrays(found), "metrics": metrics}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the run config's scenario.

    With ``record`` set to a path, the record of every round is written there; with ``checkpoint`` set to a folder, the run is
    kept there, every ``checkpoint-every`` rounds, and goes on from there.

    Raises
    ------
    ConfigurationError
        If something that the scenario names cannot be built, or does not fit the rest; no node has been asked then.
    """
    check_components(Scenario.from_run_config(context.run_config))
    path, checkpoint = (str(context.run_config.get(key, "")) for key in ("record", "checkpoint"))
    every: Any = context.run_config.get("checkpoint-every", 1)
    if not path:
        serve(grid, context, checkpoint=checkpoint or None, checkpoint_every=every)
        return
    with Recorder(Path(path)) as recorder:
        serve(grid, context, recorder, checkpoint=checkpoint or None, checkpoint_every=every)


def serve(
    grid: Grid,
    context: Context,
    observe: Callable[[RoundRecord], None] | None = None,
    *,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
) -> list[RoundRecord]:
    """Run a scenario on a grid.

    Parameters
    ----------
    grid : Grid
        Flower's or one of ours.
    context : Context
        With a scenario in its run config that passes `check_components`.
    observe : callable, optional
        Called with the record of every round as it ends, round 0 (the initial model) included.
    checkpoint : str or Path, optional
        Folder to go on from and to keep the run in, ``context.state`` included.
    checkpoint_every : int
        Rounds between checkpoints. The last round always leaves one.

    Returns
    -------
    list of RoundRecord
        Rounds 0 to T, those before the checkpoint included; ``observe`` has not seen those again.

    Raises
    ------
    ConfigurationError
        If the folder holds another scenario's run, or another run is at work there.
    """
    name = "checkpoint_every"
    require(checkpoint_every == 1 or checkpoint is not None, name, checkpoint_every, "given with checkpoint only")
    require(type(checkpoint_every) is int and checkpoint_every >= 1, name, checkpoint_every, "an integer from 1")
    setup = setup_of(context.run_config)
    strategy = make_strategy(setup.scenario)
    partition_of: dict[int, int] = getattr(grid, "partition_of", {})
    liars = byzantine_partitions(setup.scenario)
    if setup.collusion is not None:
        trim, norm_order = strategy.trimmed_by_norm(setup.scenario.asked) or (None, 2)
        grid = ColludingGrid(
            grid,
            setup.collusion,
            adversary=setup.scenario.adversary,
            trim=trim,
            norm_order=norm_order,
            reply=setup.problem.reply,
            seed=setup.scenario.seed,
            model_of=strategy.outgoing.contents.model_of,
        )

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = wire.shared_tensors(arrays)
        metrics = setup.problem.evaluate(model)
        if setup.backdoor is not None and isinstance(setup.problem, StampedProblem):
            metrics["backdoor"] = setup.problem.backdoor(model, setup.backdoor.size, setup.backdoor.target)
        record: RoundRecord = {"round": server_round, **metrics}
        reports = strategy.reports
        if reports and reports[-1].round_ == server_round:
            report = reports[-1]
            record |= {
                "kept": len(report.kept),
                "trimmed": sorted(partition_of.get(node, node) for node in report.trimmed),
                "rejected": {str(partition_of.get(r.node_id, r.node_id)): str(r.reason) for r in report.rejected},
                "threshold": report.threshold,
                "bytes": report.bytes_received,
                "bytes_sent": report.bytes_sent,
                "bytes_dense": report.bytes_dense,
                "forms": dict(report.forms),
                "resent": sorted(partition_of.get(node, node) for node in report.resent),
                "skipped": report.skipped,
                "delta": report.delta,
            }
            if report.spread is not None:
                record["spread"] = _rounded(report.spread)
            if report.minority_warning is not None:
                record["minority_warning"] = report.minority_warning
            if report.alarm is not None:
                record["alarm"] = report.alarm
            if report.norms and partition_of:  # who lies is known by partition only
                record["norms"] = _by_honesty({partition_of[n]: norm for n, norm in report.norms.items()}, liars)
        (records.append if kept is None else kept.note)(record)
        if observe is not None:
            observe(record)
        return MetricRecord(dict(metrics))

    records: list[RoundRecord] = []
    kept = None
    if checkpoint is not None:
        kept = Checkpointed(strategy, checkpoint, run=setup.scenario.key, every=checkpoint_every, app_state=context.state)
    runner: Strategy = strategy if kept is None else kept
    runner.start(grid, wire.to_arrays(setup.problem.initial()), num_rounds=setup.scenario.rounds, evaluate_fn=evaluate)
    return records if kept is None else kept.notes


def _rounded(spread: VectorSpread) -> dict[str, float | list[float] | None]:
    """Return a spread to six digits: the others depend on the processor."""
    one, other = (None if ratio is None else float(f"{ratio:.6g}") for ratio in (spread.ratio, spread.direction_ratio))
    cosines = None if spread.cosines is None else [round(cosine, 6) for cosine in spread.cosines]
    return {"ratio": one, "direction_ratio": other, "cosines": cosines}


def _by_honesty(norms: dict[int, float], liars: Collection[int]) -> dict[str, list[float]]:
    """Return smallest, median and largest norm of the honest and of the Byzantine partitions, where there are any."""
    groups = {
        "honest": [norm for partition, norm in norms.items() if partition not in liars],
        "byzantine": [norm for partition, norm in norms.items() if partition in liars],
    }
    return {name: [min(of), statistics.median(of), max(of)] for name, of in groups.items() if of}
