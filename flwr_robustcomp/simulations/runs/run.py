"""Running one scenario on one of our engines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from flwr_robustcomp.errors import require
from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations.app import CLIENT_APP, serve
from flwr_robustcomp.simulations.engines.grid import LocalGrid
from flwr_robustcomp.simulations.engines.in_process_grid import InProcessGrid
from flwr_robustcomp.simulations.engines.ray_grid import RayGrid
from flwr_robustcomp.simulations.records.record import RoundRecord
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import check_components

__all__ = ["Engine", "quiet_flower", "run_scenario"]

Engine = Literal["inprocess", "ray"]


def run_scenario(
    scenario: Scenario,
    *,
    engine: Engine = "inprocess",
    observe: Callable[[RoundRecord], None] | None = None,
    num_workers: int | None = None,
    ray_address: str | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
) -> list[RoundRecord]:
    """Run a scenario.

    Parameters
    ----------
    scenario : Scenario
        What to run.
    engine : {"inprocess", "ray"}
        All nodes in this process, or on Ray actors. The curve is the same.
    observe : callable, optional
        Called with the record of every round as it ends.
    num_workers : int, optional
        Ray actors; by default one a core.
    ray_address : str, optional
        Of an existing Ray cluster.
    checkpoint : str or Path, optional
        Folder in which the run is kept after every round, and from which it goes on if it is there, on either engine.
    checkpoint_every : int
        Rounds between checkpoints. The last round always leaves one.

    Returns
    -------
    list of RoundRecord
        Rounds 0 to T, those before the checkpoint included; ``observe`` has not seen those again.

    Raises
    ------
    ConfigurationError
        If something that the scenario names cannot be built, or does not fit the rest, before a node is started; if the folder
        holds the run of another scenario, or another run is at work there.
    """
    require(engine in get_args(Engine), "engine", engine, f"one of {', '.join(get_args(Engine))}")
    check_components(scenario)
    config = scenario.to_run_config()
    grid: LocalGrid
    if engine == "ray":
        grid = RayGrid(CLIENT_APP, scenario.nodes, num_workers=num_workers, ray_address=ray_address, run_config=config)
    else:
        grid = InProcessGrid(CLIENT_APP, scenario.nodes, run_config=config)
    with grid:
        context = server_context(grid.run.run_id, grid.run_config)
        return serve(grid, context, observe, checkpoint=checkpoint, checkpoint_every=checkpoint_every)


@contextmanager
def quiet_flower(level: int = logging.ERROR) -> Iterator[None]:
    """Silence Flower's log below ``level``: its lines for every round would drown a progress bar."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
