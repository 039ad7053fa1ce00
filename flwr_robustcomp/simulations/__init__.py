"""Simulations: scenarios, problems, grids that run unchanged Flower apps, comparisons and the paper's figures.

`scenario` is what is run, `attacks` and `problems` what it can name, `engines` where nodes live, `app` what Flower loads,
`runs` one run and many, `records` what they write, `comparison`, `paper` and `report` what is made of it.
"""

from __future__ import annotations

from flwr_robustcomp.simulations.engines.grid import LocalGrid, run_server_app
from flwr_robustcomp.simulations.engines.in_process_grid import InProcessGrid
from flwr_robustcomp.simulations.engines.ray_grid import RayGrid
from flwr_robustcomp.simulations.runs.run import run_scenario
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = ["InProcessGrid", "LocalGrid", "RayGrid", "Scenario", "run_scenario", "run_server_app"]
