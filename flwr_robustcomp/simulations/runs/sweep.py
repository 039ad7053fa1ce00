"""Running many scenarios: cells in parallel on Ray, recorded round by round, resumed where they stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.engines.ray_session import gpu_share, ray_session
from flwr_robustcomp.simulations.records.cell_index import CELLS_FILE, cell_lines
from flwr_robustcomp.simulations.records.cost import COSTS_FILE, Meter
from flwr_robustcomp.simulations.records.curves import ROUNDS_FILE, Curves, Observe, read_curves
from flwr_robustcomp.simulations.records.record import Recorder, RecordError, RoundRecord, SkippedLine
from flwr_robustcomp.simulations.runs.run import quiet_flower, run_scenario
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import check_all

__all__ = ["SweepError", "run_cells"]

_FLUSH_SECONDS = 0.3
_POLL_SECONDS = 0.2


class SweepError(RuntimeError):
    """Cells that ended with an exception; the others were run and recorded."""


def run_cells(
    scenarios: Iterable[Scenario],
    out: Path,
    *,
    jobs: int = 1,
    ray_address: str | None = None,
    advance: Callable[[int], None] = lambda rounds: None,
    observe: Observe = lambda key, record: None,
) -> Curves:
    """Run scenarios, or take them from the folder's record where they are complete.

    Parameters
    ----------
    scenarios : iterable of Scenario
        The cells; equal ones run once.
    out : Path
        Folder of the record.
    jobs : int
        Cells at a time. 1 runs them in this process, without Ray.
    ray_address : str, optional
        Of an existing cluster; used with any number of jobs.
    advance : callable
        Called with the number of rounds just finished, the ones found in the record included.
    observe : callable
        Called with the key of a cell and the record of each of its rounds, as they come in.

    Returns
    -------
    Curves
        Of exactly these scenarios, rounds 0 to T each.

    Raises
    ------
    ConfigurationError
        Before the first cell, if one that is to be run cannot be.
    SweepError
        After all other cells have run, if some raised.
    RecordError
        At once, if the record cannot be written: no other cell could be kept either.
    """
    require(jobs >= 1, "jobs", jobs, "at least 1")
    cells = {scenario.key: scenario for scenario in scenarios}
    known = read_curves(out)
    todo = {key: cell for key, cell in cells.items() if len(known.get(key, ())) != cell.rounds + 1}
    with quiet_flower():  # each is built to see that it can be, and Flower's strategies have something to say each time
        check_all(todo.values())
    if found := sum(cell.rounds for key, cell in cells.items() if key not in todo):
        advance(found)
    if todo:
        with (
            Recorder(out / CELLS_FILE) as index,
            Recorder(out / ROUNDS_FILE) as recorder,
            Recorder(out / COSTS_FILE) as costs,
        ):
            # In the order asked for: a report lists runs in the order of the index.
            for line in cell_lines(cell for key, cell in todo.items() if key not in known):
                index(line)

            def keep(key: str, records: list[RoundRecord]) -> None:
                for record in records:
                    recorder({"cell": key, **record})
                    observe(key, record)
                advance(sum(record["round"] > 0 for record in records))

            def charge(key: str, cost: dict[str, Any]) -> None:
                costs({"cell": key, **cost})

            if jobs == 1 and ray_address is None:
                failures = _run_here(todo, keep, charge)
            else:
                failures = _run_on_ray(todo, keep, charge, min(jobs, len(todo)), ray_address)
        if failures:
            raise SweepError("; ".join(f"cell {key}: {' '.join(why.split())}" for key, why in failures.items()))
        torn: list[SkippedLine] = []
        known = read_curves(out, torn.append)
        for key in todo:
            if len(known.get(key, ())) < cells[key].rounds + 1:  # a metric of a kind that no reader takes, for example
                why = f", for example {torn[-1]}" if torn else ""
                raise SweepError(f"cell {key}: its record does not read back whole: {len(torn)} lines are skipped{why}")
    return {key: known[key][: cell.rounds + 1] for key, cell in cells.items()}


Keep = Callable[[str, list[RoundRecord]], None]
Charge = Callable[[str, dict[str, Any]], None]


def _run_here(todo: dict[str, Scenario], keep: Keep, charge: Charge) -> dict[str, str]:
    """Run cells one after the other; return why which of them failed."""
    failures: dict[str, str] = {}
    with quiet_flower():
        for key, scenario in todo.items():
            meter = Meter()

            def observe(record: RoundRecord, key: str = key, meter: Meter = meter) -> None:
                meter.tick()
                keep(key, [record])

            try:
                run_scenario(scenario, observe=observe)
                charge(key, meter.cost())
            except RecordError:  # no fault of the cell, and every other cell would meet it after its first round
                raise
            except Exception as error:  # noqa: BLE001 (whatever it is, the other cells can run)
                failures[key] = f"{type(error).__name__}: {error}"
    return failures


class _CellWorker:
    """Runs cells on a Ray worker and sends their records home a few times a second."""

    def __init__(self, queue: Any) -> None:
        import torch  # noqa: PLC0415 (in the worker)

        torch.set_num_threads(1)
        self._queue = queue

    def run(self, key: str, config: dict[str, Any]) -> dict[str, Any]:
        batch: list[RoundRecord] = []
        meter = Meter()
        sent = time.monotonic()

        def observe(record: RoundRecord) -> None:
            nonlocal sent
            meter.tick()
            batch.append(record)
            if time.monotonic() - sent > _FLUSH_SECONDS:
                self._queue.put((key, batch.copy()))
                batch.clear()
                sent = time.monotonic()

        try:
            with quiet_flower():
                run_scenario(Scenario.parse(config), observe=observe)
        finally:  # a cell that fails keeps the rounds before it did
            self._queue.put((key, batch))
        return meter.cost()


def _run_on_ray(todo: dict[str, Scenario], keep: Keep, charge: Charge, jobs: int, ray_address: str | None) -> dict[str, str]:
    """Run cells on Ray workers, ``jobs`` at a time; return why which of them failed."""
    failures: dict[str, str] = {}
    with ray_session(ray_address, num_cpus=jobs) as ray:
        from ray.util.queue import Empty, Queue  # noqa: PLC0415 (Ray is an extra)

        queue = Queue(actor_options={"num_cpus": 0})
        cell_worker = ray.remote(num_cpus=1, num_gpus=gpu_share(ray, jobs))(_CellWorker)
        idle = [cell_worker.remote(queue) for _ in range(jobs)]
        waiting = list(todo.items())
        running: dict[Any, tuple[str, Any]] = {}
        while waiting or running:
            while waiting and idle:
                key, scenario = waiting.pop(0)
                worker = idle.pop()
                running[worker.run.remote(key, scenario.model_dump())] = (key, worker)
            done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
            # A worker's last records are in the queue before its task ends, so they are taken after asking who is done.
            while queue.qsize():
                try:
                    keep(*queue.get_nowait())
                except Empty:
                    break
            for reference in done:
                key, worker = running.pop(reference)
                try:
                    charge(key, ray.get(reference))
                    idle.append(worker)
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", None)  # what the cell raised, where it lives on
                    failures[key] = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
                    idle.append(cell_worker.remote(queue))
        queue.shutdown()
    return failures
