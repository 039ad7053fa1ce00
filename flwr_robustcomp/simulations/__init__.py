"""Simulations: scenarios, problems, grids that run unchanged Flower apps, comparisons and the paper's figures."""

from __future__ import annotations

from flwr_robustcomp.simulations.grid import LocalGrid, run_server_app
from flwr_robustcomp.simulations.in_process_grid import InProcessGrid
from flwr_robustcomp.simulations.ray_grid import RayGrid
from flwr_robustcomp.simulations.run import run_scenario
from flwr_robustcomp.simulations.scenario import Scenario

__all__ = ["InProcessGrid", "LocalGrid", "RayGrid", "Scenario", "run_scenario", "run_server_app"]
