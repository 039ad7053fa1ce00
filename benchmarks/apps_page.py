"""What was found about the example apps: records in docs/apps.json, and the page that shows them, docs/apps.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.apps_catalogue import APPS, NODES

__all__ = ["KINDS", "Found", "merged", "page", "read", "write"]

KINDS: Final = ("plain", "plain, attacked", "robust", "robust, attacked")
"""The runs of an app, in the order of the page's columns."""


_COLUMNS: Final = ("app", "framework", "Flower", "lines", "rounds", "bytes plain", "bytes robust", *KINDS, "result")


@dataclass(frozen=True, slots=True)
class Found:
    """What one app did under one version of Flower.

    Attributes
    ----------
    app, framework, flower, python : str
        Which app, and the versions.
    added, removed : int
        Lines of the robust folder that the plain one lacks, and the other way round.
    rounds : int
        Rounds of every run.
    bytes_plain, bytes_robust : int
        Bytes of Array data in the median training reply.
    accuracy : dict of str to float or None
        Of the last round's model, for each of `KINDS`; None where the run printed none.
    status : dict of str to str
        How each `flwr run` ended, in Flower's words: of the plain and of the robust app.
    """

    app: str
    framework: str
    flower: str
    python: str
    added: int
    removed: int
    rounds: int
    bytes_plain: int
    bytes_robust: int
    accuracy: dict[str, float | None]
    status: dict[str, str]

    @property
    def result(self) -> str:
        """Return "completed", or which run ended otherwise or without an accuracy."""
        bad = [f"{kind}: {how}" for kind, how in self.status.items() if how != "completed" or self.accuracy[kind] is None]
        return "; ".join(bad) or "completed"


def read(path: Path) -> list[Found]:
    """Return the records of a file; none where there is no file."""
    return [Found(**record) for record in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def write(path: Path, found: Sequence[Found]) -> None:
    """Write records, a line each, so that a difference between two versions of the file can be read."""
    lines = ",\n".join(json.dumps(asdict(one), sort_keys=True) for one in found)
    path.write_text(f"[\n{lines}\n]\n" if found else "[]\n", encoding="utf-8")


def merged(old: Iterable[Found], new: Iterable[Found]) -> list[Found]:
    """Return all records, the new in the place of old ones of the same app and Flower; in the order of the page."""
    records = {(one.app, one.flower): one for one in [*old, *new]}
    names = [app.name for app in APPS]
    known = (one for one in records.values() if one.app in names)
    return sorted(known, key=lambda one: (names.index(one.app), _key(one.flower)))


def page(found: Sequence[Found], missing: Iterable[str] = ()) -> str:
    """Return the page: one row for each app and version of Flower.

    Parameters
    ----------
    found : sequence of Found
        The rows, in order.
    missing : iterable of str
        Apps that have no row; a line says so.
    """
    lines = [
        "# Apps of other frameworks",
        "",
        "Written by `make apps` (`python -m benchmarks.apps`), from the folders in `examples/apps` and the two quickstarts.",
        "Each app has the shape of Flower's own quickstart for that framework, and lies there twice: *plain* with Flower's",
        "FedAvg, and *robust* with the recipe of this package. No app loads anything from a network.",
        "",
        "- **lines**: added and removed, from plain to robust, counted by a diff of the two folders.",
        "- **bytes**: Array data in the median training reply of a client.",
        f"- **accuracy**: of the last round's model, on test data that no client has. {NODES} nodes take part in every round.",
        "  *Attacked*: one of them replies with ten times its update, backwards; in the robust app before compression. These",
        "  runs are made on nodes of one process, the others by a stock `flwr run` of the folder.",
        "- **result**: how the two `flwr run` ended. The rows of other versions of Flower are kept from earlier runs.",
        "",
        "[Other frameworks](how-to/frameworks.md) explains the change to an app, and what each framework needs.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
        *(_row(one) for one in found),
    ]
    if names := sorted(missing):
        lines += ["", f"Not run, since the framework was not installed: {', '.join(names)}."]
    return "\n".join(lines) + "\n"


def _row(one: Found) -> str:
    cells = [one.app, one.framework, one.flower, f"+{one.added} -{one.removed}", str(one.rounds)]
    cells += [f"{one.bytes_plain:,}", f"{one.bytes_robust:,}"]
    cells += ["-" if value is None else f"{value:.3f}" for value in (one.accuracy[kind] for kind in KINDS)]
    return f"| {' | '.join([*cells, one.result])} |"


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
