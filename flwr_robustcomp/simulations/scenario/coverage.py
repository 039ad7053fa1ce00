"""What a scenario's run is told about the theory before it starts."""

from __future__ import annotations

from flwr_robustcomp.layout import Layout
from flwr_robustcomp.simulations.scenario.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import make_problem, make_strategy

__all__ = ["outside_theory"]


def outside_theory(scenario: Scenario) -> str | None:
    """Return the line that a server would log at its start if it knew the adversary; None where a theorem covers the run."""
    layout = Layout.of(make_problem(scenario).initial())
    line = make_strategy(scenario).outside_theory(layout, scenario.asked, scenario.adversary)
    return None if line is None else line[1]
