"""What is done with the folder of an app: compare it with its pair, run it in this process, give it a node that attacks."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from flwr.app import ArrayRecord, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from benchmarks.apps_catalogue import App
from flwr_robustcomp.flower import server_context
from flwr_robustcomp.simulations import InProcessGrid

__all__ = ["accuracy_in", "apps_of", "changed_lines", "run_config_of", "run_in_process", "with_attacker"]

_MOD: Final = "attacker"
_ATTACK: Final = '''"""Node 0 lies: it sends ten times its update, backwards. Mods before this one in the list compress it."""

from flwr.app import Array


def attacker(message, context, call_next):
    """Change the floating arrays of the reply; leave counters and batch statistics, which are not compressed."""
    answer = call_next(message, context)
    if message.metadata.message_type.startswith("train") and context.node_config["partition-id"] == 0:
        received, sent = message.content["arrays"], answer.content["arrays"]
        for name in sent:
            before, after = received[name].numpy(), sent[name].numpy()
            if after.dtype.kind == "f" and "running_" not in name:
                sent[name] = Array((before + 10 * (before - after)).astype(after.dtype))
    return answer
'''


def changed_lines(app: App) -> dict[str, list[str]]:
    """Return the lines that differ between the plain and the robust folder, marked + and -, by file.

    Raises
    ------
    ValueError
        If a file exists in one folder alone: then the difference is not a few lines.
    """
    files = _sources(app.plain)
    if files != _sources(app.robust):
        raise ValueError(f"{app.plain} and {app.robust} must hold the same files")
    changed = {}
    for file in files:
        plain, robust = ((folder / file).read_text(encoding="utf-8").splitlines() for folder in (app.plain, app.robust))
        lines = [line[0] + line[2:] for line in difflib.ndiff(plain, robust) if line[0] in "+-"]
        if lines:
            changed[file.name] = lines
    return changed


def run_config_of(folder: Path) -> dict[str, Any]:
    """Return the run config of an app's pyproject.toml, flat, as Flower hands it to the apps."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    return _flat(project["tool"]["flwr"]["app"]["config"])


@contextmanager
def apps_of(folder: Path, package: str) -> Iterator[tuple[ClientApp, ServerApp]]:
    """Import an app's two parts, and forget them again: the plain and the robust folder have the same package name."""
    sys.path.insert(0, str(folder))
    try:
        client, server = (import_module(f"{package}.{part}").app for part in ("client_app", "server_app"))
        yield client, server
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]


def run_in_process(folder: Path, package: str, *, nodes: int, run_config: Mapping[str, Any] | None = None) -> list[int]:
    """Run an app on nodes of this process; return the bytes of Array data in each training reply, in order.

    The accuracy is in what the app prints; see `accuracy_in`.

    Raises
    ------
    RuntimeError
        If a node's part of the app fails. Flower's FedAvg goes on without that node, and the accuracy would say nothing of it.
    """
    config = {**run_config_of(folder), **(run_config or {})}
    with apps_of(folder, package) as (client_app, server_app), _CountingGrid(client_app, nodes, run_config=config) as grid:
        server_app(grid, server_context(grid.run.run_id, config))
        return grid.sizes


def accuracy_in(text: str) -> float | None:
    """Return the accuracy that an app printed at its end; None if it did not come so far."""
    found = re.findall(r"accuracy after the last round: ([\d.]+)", text)
    return float(found[-1]) if found else None


def with_attacker(app: App, folder: Path, target: Path) -> Path:
    """Copy the folder of an app to ``target`` and let its first node attack; return ``target``.

    Raises
    ------
    ValueError
        If the client's line with ``ClientApp(`` is not the one that is expected.
    """
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / app.package / f"{_MOD}.py").write_text(_ATTACK, encoding="utf-8")
    client = target / app.package / "client_app.py"
    text = client.read_text(encoding="utf-8")
    changed = text.replace("ClientApp()", f"ClientApp(mods=[{_MOD}])").replace(
        "ClientApp(mods=[configured_mod])", f"ClientApp(mods=[configured_mod, {_MOD}])"
    )
    if changed == text:
        raise ValueError(f"{client} must make its app by ClientApp() or ClientApp(mods=[configured_mod])")
    imported = f"from {app.package}.{_MOD} import {_MOD}\n"
    client.write_text(re.sub(r"^app = ", f"{imported}\napp = ", changed, count=1, flags=re.MULTILINE), encoding="utf-8")
    return target


class _CountingGrid(InProcessGrid):
    """An `InProcessGrid` that notes how many bytes of Array data each training reply has."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sizes: list[int] = []

    def pull_messages(self, *args: Any, **options: Any) -> Iterable[Message]:
        """Return the replies, counted."""
        replies = list(super().pull_messages(*args, **options))
        for reply in replies:
            if reply.has_error():
                raise RuntimeError(f"a node failed: {reply.error.reason}")
        self.sizes.extend(_size(reply) for reply in replies if _is_training(reply))
        return replies


def _is_training(reply: Message) -> bool:
    return str(reply.metadata.message_type).partition(".")[0] == "train"


def _size(reply: Message) -> int:
    records = [record for record in reply.content.values() if isinstance(record, ArrayRecord)]
    return sum(len(array.data) for record in records for array in record.values())


def _sources(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix in (".py", ".toml"))


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
