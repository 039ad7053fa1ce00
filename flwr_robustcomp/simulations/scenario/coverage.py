"""What a scenario's run is told about the theory before it starts."""

from __future__ import annotations

from flwr_robustcomp.layout import Layout
from flwr_robustcomp.simulations.scenario import Scenario
from flwr_robustcomp.simulations.scenario.setup import make_problem, make_strategy
from flwr_robustcomp.strategies import NormThreshold
from flwr_robustcomp.strategies.guarantee import guarantee_line

__all__ = ["outside_theory"]


def outside_theory(scenario: Scenario) -> str | None:
    """Return the line that a server would log at its start if it knew the adversary; None where a theorem covers the run."""
    strategy = make_strategy(scenario)
    if not isinstance(strategy, NormThreshold):
        return None
    spans = Layout.of(make_problem(scenario).initial()).spans(scenario.granularity)
    line = guarantee_line(
        strategy.receiver.compressor,
        spans,
        scenario.nodes,
        strategy.trim,
        theorem=strategy.theorem,
        norm_order=strategy.norm_order,
        adversary=scenario.adversary,
    )
    return None if line is None else line[1]
