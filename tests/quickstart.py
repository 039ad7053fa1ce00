"""The quickstart examples as apps of this process."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations import InProcessGrid

EXAMPLES = Path(__file__).parents[1] / "examples"
PLAIN, ROBUST = EXAMPLES / "quickstart", EXAMPLES / "quickstart-robust"


@contextmanager
def apps_of(folder: Path) -> Iterator[tuple[ClientApp, ServerApp]]:
    """Import an example; both have the same package name, so it is forgotten again."""
    sys.path.insert(0, str(folder))
    try:
        from quickstart.client_app import app as client_app
        from quickstart.server_app import app as server_app

        yield client_app, server_app
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "quickstart"]:
            del sys.modules[name]


def run_config_of(folder: Path) -> dict[str, Any]:
    """Return the run config of an example's pyproject.toml, flat, as Flower hands it to the apps."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    return _flat(project["tool"]["flwr"]["app"]["config"])


def run_in_process(folder: Path, nodes: int, **config: Any) -> None:
    """Run an example on nodes of this process; dashes of config keys are written as underscores."""
    changed = {name.replace("_", "-"): value for name, value in config.items()}
    run_config = {**run_config_of(folder), "min-nodes": nodes, **changed}
    with apps_of(folder) as (client_app, server_app), InProcessGrid(client_app, nodes, run_config=run_config) as grid:
        server_app(grid, server_context(grid.run.run_id, run_config))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
