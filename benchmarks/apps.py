"""Every example app under this interpreter's Flower: ``python -m benchmarks.apps`` writes docs/apps.md and docs/apps.json.

An app is run twice by ``flwr run``, plain and robust, and twice in this process with one node that attacks. An app whose
framework is not installed is skipped with a line. Records of other apps and of other versions of Flower stay.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.apps_catalogue import APPS, EXTRA, NODES, App
from benchmarks.apps_folders import accuracy_in, changed_lines, run_config_of, run_in_process, with_attacker
from benchmarks.apps_page import Found, merged, page, read, write
from benchmarks.stock_flower import Backend, LocalFlower
from flwr_robustcomp.flower import assume_identity

__all__ = ["measure"]

_LONGEST: Final = 600.0
"""Seconds that one `flwr run` may take."""

_CONFIG: Final = {"min-nodes": NODES}


def measure(app: App, flower: LocalFlower, folder: Path) -> Found:
    """Run an app in its four forms and count what its clients send.

    Parameters
    ----------
    app : App
        Its framework must be installed.
    flower : LocalFlower
        Runs the apps.
    folder : Path
        A temporary folder, for the copies in which a node attacks.
    """
    status: dict[str, str] = {}
    accuracy: dict[str, float | None] = {}
    size: dict[str, int] = {}
    for kind, source in (("plain", app.plain), ("robust", app.robust)):
        run = flower.run(
            source,
            num_supernodes=NODES,
            run_config=_CONFIG,
            timeout=_LONGEST,
            backend=Backend(init_num_cpus=1),  # one worker: it imports the framework, which takes longer than the training
        )
        status[kind], accuracy[kind] = str(run.status), accuracy_in(run.log)
        print(f"{app.name}, {kind}: {run.status}, accuracy {accuracy[kind]}, {run.seconds:.0f} s", flush=True)
        if not run.ok or accuracy[kind] is None:
            print("\n".join(run.log.splitlines()[-30:]), file=sys.stderr)
        copied = with_attacker(app, source, folder / app.package / kind)
        accuracy[f"{kind}, attacked"], size[kind] = _in_process(copied, app.package)
        print(f"{app.name}, {kind}, attacked: accuracy {accuracy[f'{kind}, attacked']}", flush=True)
    changed = [line for lines in changed_lines(app).values() for line in lines]
    return Found(
        app=app.name,
        framework=app.framework,
        flower=version("flwr"),
        python=platform.python_version(),
        added=sum(line.startswith("+") for line in changed),
        removed=sum(line.startswith("-") for line in changed),
        rounds=int(run_config_of(app.robust)["num-server-rounds"]),
        bytes_plain=size["plain"],
        bytes_robust=size["robust"],
        accuracy=accuracy,
        status=status,
    )


def _in_process(folder: Path, package: str) -> tuple[float | None, int]:
    """Run a folder on nodes of this process; return the accuracy and the bytes of the median training reply."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        sizes = run_in_process(folder, package, nodes=NODES, run_config=_CONFIG)
    return accuracy_in(printed.getvalue()), int(statistics.median(sizes))


def main(arguments: Sequence[str] | None = None) -> None:
    names = {app.name: app for app in APPS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(names), default=list(names), metavar="NAME", help="apps to run")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of apps.md and apps.json")
    options = parser.parse_args(arguments)
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    assume_identity(1)
    records = options.out / "apps.json"
    with tempfile.TemporaryDirectory(prefix="apps-") as folder, LocalFlower() as flower:
        for name in options.only:
            app = names[name]
            if app.missing:
                print(f"{name}: skipped, {', '.join(app.missing)} not installed: pip install '.[{EXTRA}]'", flush=True)
                continue
            # After each app, so that a run that is stopped keeps what it found.
            write(records, merged(read(records), [measure(app, flower, Path(folder))]))
    found = read(records)
    (options.out / "apps.md").write_text(page(found, names.keys() - {one.app for one in found}), encoding="utf-8")


if __name__ == "__main__":
    main()
