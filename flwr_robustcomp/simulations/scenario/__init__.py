"""A run as data, and what it names.

`scenario` is the value: the fields of a run, read and checked without building anything. `suite` is a comparison of many.
`setup` builds what a scenario names, and `check_components` there refuses one whose parts cannot be built or do not fit
together. `coverage` says what theory has to say of it. Builds on `attacks` and `problems`.
"""

from __future__ import annotations

from flwr_robustcomp.simulations.scenario.scenario import RunConfig, Scenario, load_toml

__all__ = ["RunConfig", "Scenario", "load_toml"]
