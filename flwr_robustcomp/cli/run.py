"""`robustcomp run`: one scenario."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.table import Table

from flwr_robustcomp.cli import console
from flwr_robustcomp.cli.console import BOARD, Bar, interruptible, number
from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.comparison.summary import format_metric
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE, cell_lines, check_folder
from flwr_robustcomp.simulations.records.cost import COSTS_FILE, Meter
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, read_curves
from flwr_robustcomp.simulations.records.provenance import note_start
from flwr_robustcomp.simulations.records.record import Recorder, RoundRecord
from flwr_robustcomp.simulations.records.tensorboard import tensorboard
from flwr_robustcomp.simulations.records.traffic import Volume, volume
from flwr_robustcomp.simulations.runs.run import Engine, run_scenario
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.coverage import outside_theory
from flwr_robustcomp.simulations.scenario.setup import check_components, make_problem

__all__ = ["run"]


def run(
    scenario: Annotated[Path, typer.Argument(help="A scenario as TOML.")],
    engine: Annotated[str, typer.Option(help="inprocess or ray.")] = "inprocess",
    out: Annotated[Path | None, typer.Option(help="Folder of the record; by default out/NAME.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="HOST:PORT of an existing Ray cluster, or auto.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ray actors; by default one for each core.")] = None,
    board: Annotated[Path | None, BOARD] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder to keep the run in after every round; the run goes on from it if it is there.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Rounds between checkpoints; the last always leaves one.")] = 1,
) -> None:
    """Run one scenario."""
    require(engine in get_args(Engine), "engine", engine, f"one of {', '.join(get_args(Engine))}")
    require(ray_address is None or engine == "ray", "ray-address", ray_address, "given with --engine ray only")
    require(checkpoint_every >= 1, "checkpoint-every", checkpoint_every, "an integer from 1")
    require(
        checkpoint_every == 1 or checkpoint is not None, "checkpoint-every", checkpoint_every, "given with --checkpoint only"
    )
    config = Scenario.from_toml(scenario)
    check_components(config)
    metric = make_problem(config).metric
    out = out or Path("out") / scenario.stem
    check_folder(out, config)
    note = outside_theory(config)
    with (
        interruptible(out),
        tensorboard(board, {config.key: scenario.stem}) as write,
        Recorder(out / CELLS_FILE) as index,
        Recorder(out / ROUNDS_FILE) as recorder,
        Bar(scenario.stem, config.rounds) as bar,
    ):
        note_start(out, sys.argv[1:])
        seen = 0
        for line in cell_lines([config]):
            index(line)
        meter = Meter()

        def observe(record: RoundRecord) -> None:
            nonlocal seen
            if record["round"] == 0 and note is not None:  # now that everything that was asked for was found possible
                console.out.print(f"note: {note}", highlight=False, soft_wrap=True)
            meter.tick()
            recorder({"cell": config.key, **record})
            write(config.key, record)
            value = format_metric(metric, number(record.get(metric)))
            # A run that goes on begins after its checkpoint's round.
            bar.advance(record["round"] - seen, text=f"{scenario.stem}: {metric} {value}")
            seen = record["round"]

        records = run_scenario(
            config,
            engine=engine,  # type: ignore[arg-type]  # checked by run_scenario
            observe=observe,
            num_workers=workers,
            ray_address=ray_address,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        # A run that went on from its checkpoint with another --out, or after a crash: its first rounds stand nowhere else.
        known = {record["round"] for record in read_curves(out).get(config.key, ())}
        for record in records:
            if record["round"] not in known:
                recorder({"cell": config.key, **record})
        with Recorder(out / COSTS_FILE) as costs:
            costs({"cell": config.key, **meter.cost()})
    last = records[-1]
    alarms = [record for record in records if record.get("alarm")]
    if alarms:
        rounds = ", ".join(str(record["round"]) for record in alarms[:8]) + (", ..." if len(alarms) > 8 else "")
        first = f"ALARM in round {rounds}: {alarms[0]['alarm']} (docs/policy.md)"
        console.out.print(first, highlight=False, soft_wrap=True)
    console.out.print(_rounds_table(metric, records))
    console.out.print(_traffic(volume(records)), highlight=False, soft_wrap=True)
    console.out.print(
        f"{scenario.stem}: {metric} {format_metric(metric, number(last.get(metric)))} after {config.rounds} rounds "
        f"with {config.byzantine} of {config.nodes} nodes Byzantine; record in {out / ROUNDS_FILE}",
        highlight=False,
        soft_wrap=True,
    )


def _traffic(told: Volume) -> str:
    """Return one line on the bytes of a run."""
    if told.down is None or told.dense is None:  # rounds of an older checkpoint
        return f"traffic: {told.up:,} bytes up; the record does not say how many down"
    ratio = f"; {told.dense / told.total:,.3g} times less than dense both ways" if told.total else ""
    return f"traffic: {told.up:,} bytes up, {told.down:,} down, {told.total:,} in all{ratio} ({told.dense:,})"


def _rounds_table(metric: str, records: list[RoundRecord]) -> Table:
    """Return about ten rounds of a run as a table."""
    table = Table("round", metric, "kept", "trimmed", "rejected", "threshold", "delta", "bytes up", "bytes down")
    step = max(1, (len(records) - 1) // 10)
    for record in records[::step]:
        threshold, delta = record.get("threshold"), record.get("delta")
        table.add_row(
            str(record["round"]),
            format_metric(metric, number(record.get(metric))),
            str(record.get("kept", "")),
            str(len(record.get("trimmed", ()))) if record["round"] else "",
            str(len(record.get("rejected", ()))) if record["round"] else "",
            "" if threshold is None else f"{threshold:.3g}",
            "" if delta is None else f"{delta:.3g}",
            f"{record.get('bytes', 0):,}" if record["round"] else "",
            "" if record.get("bytes_sent") is None else f"{record['bytes_sent']:,}",
        )
    return table
