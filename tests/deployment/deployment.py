"""A Flower deployment on the loopback interface: SuperLink with TLS, authenticated SuperNodes, runs; nothing stays behind.

Everything that is started carries a random token in its environment and ends with the context manager, by process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.machine import free_ports
from benchmarks.processes import Family
from benchmarks.run_config import ConfigValue, run_config_toml, toml_value
from tests.deployment.credentials import make_certificates, make_node_key
from tests.deployment.relay import Relay, relay
from tests.deployment.warm import READY, Forked, fork, write_commands

__all__ = ["Deployment", "Node", "Run", "wait_for"]

_TOKEN = "FLWR_DEPLOYMENT_TOKEN"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def wait_for(condition: Callable[[], object], what: str, patience: float = 180.0) -> None:
    """Wait until a condition holds; give up after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:g} s for {what}")
        time.sleep(0.1)


class _Logged:
    """A process whose output goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has written so far, without colours."""
        return _ANSI.sub("", self._log.read_text(encoding="utf-8", errors="replace"))


class Node(_Logged):
    """A SuperNode."""

    @property
    def connected(self) -> bool:
        """Whether the SuperLink has let it in."""
        return "SuperNode ID:" in self.log

    def stop(self) -> None:
        """Ask it to end, and wait: it says goodbye to the SuperLink."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=60)

    def sleep(self) -> None:
        """Let it stand still, as a machine that sleeps."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would: it cannot say goodbye."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Run(_Logged):
    """A ``flwr run --stream``."""

    def reached(self, pattern: str) -> bool:
        """Whether a line of the ServerApp's log matches; raises if the run is over without it."""
        over = self.process.poll() is not None
        found = re.search(pattern, self.log, re.MULTILINE) is not None
        if over and not found:
            raise RuntimeError(f"the run is over without {pattern!r}:\n{self.log[-3000:]}")
        return found


class Deployment:
    """A SuperLink with TLS and SuperNode authentication; use as a context manager.

    Parameters
    ----------
    folder : Path
        Holds Flower's home, credentials and logs.
    warm : bool
        Whether Flower's processes are forked from a warm one, and look for messages more often (`tests.deployment.warm`).
    """

    def __init__(self, folder: Path, *, warm: bool = False) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.certificates = make_certificates(folder)
        (self.port,) = free_ports(1)
        token = uuid.uuid4().hex
        self._family = Family(f"{_TOKEN}={token}")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
        self._environ = kept | {
            _TOKEN: token,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "FLWR_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }
        self._warm = f"flwr-{token}" if warm else ""
        if warm:
            commands = write_commands(folder / "bin", self._warm)
            self._environ["PATH"] = os.pathsep.join([str(commands), self._environ["PATH"]])
            self._environ["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.3"
        (self.home / "config.toml").write_text(
            '[superlink]\ndefault = "deployment"\n\n[superlink.deployment]\n'
            f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{self.certificates.authority}"\n',
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        """Start the SuperLink and wait until it answers."""
        own = self.certificates
        tls = ["--ssl-ca-certfile", str(own.authority), "--ssl-certfile", str(own.certificate), "--ssl-keyfile", str(own.key)]
        command = ["flower-superlink", *tls, "--enable-supernode-auth", "--host", "127.0.0.1", "--port", str(self.port)]
        try:
            if self._warm:
                forks = _Logged(*self._start("warm", [sys.executable, "-m", "tests.deployment.warm", self._warm], cold=True))
                wait_for(lambda: READY in self._living(forks).log, "the process that forks")
            self.superlink = _Logged(*self._start("superlink", command))
            wait_for(lambda: "Uvicorn running on" in self._living(self.superlink).log, "the SuperLink")
        except BaseException:
            self._family.end(grace=3.0)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End everything that was started."""
        self._family.end(grace=5.0)

    def register(self, *names: str) -> dict[str, int]:
        """Make a key for each name and register it; return the node ids."""
        started = {}
        for name in names:
            command = ["flwr", "supernode", "register", str(self.make_key(name)), "deployment", "--format", "json"]
            started[name] = _Logged(*self._start(f"register-{name}", command))
        ids = {}
        for name, one in started.items():
            if one.process.wait(timeout=180) != 0 or "node-id" not in one.log:
                raise RuntimeError(f"registering {name} failed:\n{one.log}")
            ids[name] = int(json.loads(one.log[one.log.index("{") :])["node-id"])
        return ids

    def make_key(self, name: str) -> Path:
        """Make the key of a SuperNode; return the path of its public half."""
        return make_node_key(self.folder / f"{name}.key")

    def supernode(
        self, name: str, node_config: Mapping[str, ConfigValue], *, port: int | None = None, home: str | None = None
    ) -> Node:
        """Start a SuperNode with the key of a name; ``port`` may be a relay's, ``home`` names an empty home of its own."""
        config = " ".join(f"{key}={toml_value(value)}" for key, value in node_config.items())
        (runtime_port,) = free_ports(1)
        command = ["flower-supernode", "--root-certificates", str(self.certificates.authority)]
        command += ["--superlink", f"127.0.0.1:{port or self.port}", "--node-config", config]
        command += ["--auth-supernode-private-key", str(self.folder / f"{name}.key")]
        command += ["--host", "127.0.0.1", "--port", str(runtime_port)]
        own = {} if home is None else {"FLWR_HOME": str(self.folder / home)}
        return Node(*self._start(f"supernode-{home or name}", command, own))

    def run(self, app: Path, run_config: Mapping[str, ConfigValue]) -> Run:
        """Start a run of an app and stream its log."""
        path = self.folder / "run-config.toml"
        path.write_text(run_config_toml(run_config), encoding="utf-8")
        return Run(*self._start("run", ["flwr", "run", str(app), "deployment", "--stream", "--run-config", str(path)]))

    def status(self) -> str:
        """Return the status of the latest run, as ``flwr ls`` says it."""
        listed = _Logged(*self._start("ls", ["flwr", "ls", "deployment", "--format", "json"]))
        listed.process.wait(timeout=180)
        return str(json.loads(listed.log[listed.log.index("{") :])["runs"][0]["status"])

    @contextlib.contextmanager
    def relay(self) -> Iterator[Relay]:
        """Put a counting relay before the SuperLink."""
        with relay(self.certificates, self.port) as one:
            yield one

    def _start(
        self, name: str, command: list[str], further: Mapping[str, str] | None = None, *, cold: bool = False
    ) -> tuple[subprocess.Popen[bytes] | Forked, Path]:
        log = self.folder / f"{name}.log"
        environment = self._environ | dict(further or {})
        with log.open("wb") as output:
            if self._warm and not cold:
                return fork(self._warm, command, environment, self.folder, output.fileno()), log
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, log

    @staticmethod
    def _living(one: _Logged) -> _Logged:
        if one.process.poll() is not None:
            raise RuntimeError(f"ended with status {one.process.poll()}:\n{one.log[-3000:]}")
        return one
