"""Run a Flower App with the stock ``flwr run`` command, headlessly, and leave nothing behind.

``flwr run`` starts a SuperLink that outlives it, and that starts further processes (SuperExec, the simulation, Ray).
`LocalFlower` owns all of them: it gives them a fresh FLWR_HOME, a free loopback port and a random token in their
environment, and on exit ends exactly the processes that carry this token, and their descendants, by process id.

Linux only: the processes are found through /proc.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from benchmarks.machine import free_ports
from benchmarks.processes import Family, Process
from benchmarks.run_config import ConfigValue, run_config_toml, toml_value

__all__ = ["Backend", "CompletedRun", "ConfigValue", "FlowerRunError", "LocalFlower", "flwr_run"]

Status = Literal["completed", "failed", "stopped", "rejected", "timeout", "unknown"]

_TOKEN_VARIABLE: Final = "FLWR_RUN_OWNER_TOKEN"
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RUN_ID: Final = re.compile(r"Successfully started run (\d+)")
_FOREIGN_PREFIXES: Final = ("FLWR_", "RAY_")
_PROXY_VARIABLES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"})


@dataclass(frozen=True, slots=True)
class Backend:
    """Resources of the stock simulation. ``client_num_cpus`` is a whole number: Flower's protobuf field is one."""

    client_num_cpus: int = 1
    client_num_gpus: float = 0.0
    init_num_cpus: int | None = None
    verbose: bool = False

    def as_overrides(self, num_supernodes: int) -> str:
        """Return the value of ``flwr run --federation-config``."""
        options: dict[str, ConfigValue] = {
            "num-supernodes": num_supernodes,
            "client-resources-num-cpus": self.client_num_cpus,
            "client-resources-num-gpus": float(self.client_num_gpus),
            "verbose": self.verbose,
        }
        if self.init_num_cpus is not None:
            options["init-args-num-cpus"] = self.init_num_cpus
        return " ".join(f"{key}={toml_value(value)}" for key, value in options.items())


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """What became of one ``flwr run``.

    ``rejected``: Flower refused the app or its config, no run was created. ``unknown``: the run's status could not be
    read. ``details`` is Flower's own one-line reason for a failed run.
    """

    status: Status
    returncode: int | None  # of `flwr run` itself: 0 even where the run failed; None where it was cut off
    run_id: int | None
    details: str
    log: str  # output of `flwr run --stream` without colours: what ServerApp and ClientApps printed and logged
    superlink_log: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the ServerApp ran to its end."""
        return self.status == "completed"

    def check(self) -> CompletedRun:
        """Return self, or raise `FlowerRunError` with the end of the log."""
        if not self.ok:
            raise FlowerRunError(self)
        return self


class FlowerRunError(RuntimeError):
    """A ``flwr run`` that did not complete."""

    def __init__(self, run: CompletedRun) -> None:
        tail = "\n".join(run.log.splitlines()[-40:])
        super().__init__(f"flwr run: {run.status} (exit {run.returncode}): {run.details}\n{tail}")
        self.run = run


class LocalFlower:
    """A private local Flower: one FLWR_HOME, one SuperLink, any number of runs one after another.

    Use as a context manager. Every run but the first saves the SuperLink's start (about 2 s). Not thread-safe.
    A driver that dies without unwinding (SIGKILL, or SIGTERM with no handler) leaves its processes behind.
    """

    def __init__(self, *, home: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        if not Path("/proc/self/environ").exists():
            raise RuntimeError("LocalFlower needs Linux's /proc to find the processes it has to end")
        self._token = uuid.uuid4().hex
        # Ray puts Unix sockets (107 bytes at most) under its directory: it must be short, so never under `home`.
        self._ray_dir = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
        self.home = home if home is not None else self._ray_dir / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "config.toml").write_text(
            '[superlink]\ndefault = "local"\n\n[superlink.local]\naddress = ":local-in-memory:"\n', encoding="utf-8"
        )
        self._environ = self._build_environ(os.environ if environ is None else environ)
        self._family = Family(f"{_TOKEN_VARIABLE}={self._token}")
        self._runs = 0

    def __enter__(self) -> LocalFlower:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        app_dir: Path,
        *,
        num_supernodes: int,
        run_config: Mapping[str, ConfigValue] | None = None,
        timeout: float = 120.0,
        backend: Backend = Backend(),
    ) -> CompletedRun:
        """``flwr run app_dir --stream``; wait until the run is finished or ``timeout`` seconds are over.

        Keys of ``run_config`` must exist under ``[tool.flwr.app.config]``; write nested ones with dots. On a timeout
        and on any exception, KeyboardInterrupt included, everything is stopped before this returns or raises.
        A ServerApp that calls `sys.exit` counts as completed with Flower: check for what it was to write, too.
        """
        self._runs += 1
        started = time.monotonic()
        deadline = started + timeout
        output_path = self.home / f"run-{self._runs}.log"
        command = [*_flwr(), "run", str(app_dir.resolve()), "--stream"]
        command += ["--federation-config", backend.as_overrides(num_supernodes)]
        if run_config:
            config_path = self.home / f"run-{self._runs}.toml"
            config_path.write_text(run_config_toml(run_config), encoding="utf-8")
            command += ["--run-config", str(config_path)]

        returncode: int | None = None
        status: Status = "timeout"
        details = f"not finished after {timeout:g} s"
        run_id: int | None = None
        try:
            with output_path.open("wb") as output:
                returncode = self._call(command, output=output.fileno(), deadline=deadline)
            found = _RUN_ID.search(_plain(output_path))
            run_id = int(found.group(1)) if found else None
            if returncode is not None and run_id is None:
                status, details = "rejected", "flwr run created no run"
            elif run_id is not None:
                status, details = self._wait_until_finished(run_id, deadline)
        except BaseException:
            self.stop()
            raise
        if status == "timeout":
            self.stop()
        superlink_log = self.home / "local-superlink" / "superlink.log"
        return CompletedRun(
            status=status,
            returncode=returncode,
            run_id=run_id,
            details=details,
            log=_plain(output_path),
            superlink_log=_plain(superlink_log) if superlink_log.exists() else "",
            seconds=time.monotonic() - started,
        )

    def stop(self, *, grace: float = 3.0) -> None:
        """End every process that this object's runs started: SIGTERM, then SIGKILL after ``grace`` seconds."""
        self._family.end(grace=grace)

    def close(self) -> None:
        """Stop everything and remove the temporary files (``home`` only where it was made here)."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self._ray_dir, ignore_errors=True)

    def processes(self) -> frozenset[Process]:
        """Return the living processes that belong to this object's runs."""
        return self._family.living()

    def _build_environ(self, base: Mapping[str, str]) -> dict[str, str]:
        environ = {
            name: value
            for name, value in base.items()
            if not name.startswith(_FOREIGN_PREFIXES) and name.lower() not in _PROXY_VARIABLES
        }
        # `flwr` starts `flower-superlink`, and that `flower-superexec`, and so on, through PATH.
        environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
        http_port, control_port = free_ports(2)
        environ |= {
            _TOKEN_VARIABLE: self._token,
            "FLWR_HOME": str(self.home.resolve()),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(http_port),
            "FLWR_LOCAL_CONTROL_API_PORT": str(control_port),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",
            "RAY_TMPDIR": str(self._ray_dir),
            "RAY_ADDRESS": "local",  # never join a Ray cluster that happens to run on this machine
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite the name: Ray binds to loopback only
            "RAY_prestart_worker_first_driver": "0",  # no idle workers that the actors do not use: saves about 1 s
            "RAY_DEDUP_LOGS": "0",
            "NO_PROXY": "*",
            "no_proxy": "*",
        }
        return environ

    def _call(self, command: list[str], *, output: int, deadline: float) -> int | None:
        """Run a command in a session of its own; its exit status, or None where the deadline passed."""
        process = subprocess.Popen(
            command,
            env=self._environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                self.processes()  # remember the children before their parent goes
                process.kill()
                process.wait()

    def _wait_until_finished(self, run_id: int, deadline: float) -> tuple[Status, str]:
        """``flwr run`` exits with 0 for failed runs too, so ask ``flwr ls``."""
        answer_path = self.home / "ls.json"
        while time.monotonic() < deadline:
            command = [*_flwr(), "ls", "--run-id", str(run_id), "--format", "json"]
            with answer_path.open("wb") as output:
                self._call(command, output=output.fileno(), deadline=deadline)
            text = _plain(answer_path)
            try:
                row = json.loads(text[text.index("{") :])["runs"][0]
                state, details = str(row["status"]), str(row["status-details"])
            except (ValueError, KeyError, IndexError, TypeError):
                return "unknown", text.strip()
            match state.partition(":"):
                case ("finished", _, "completed"):
                    return "completed", details
                case ("finished", _, "stopped"):
                    return "stopped", details
                case ("finished", _, _):
                    return "failed", details
            time.sleep(0.5)
        return "timeout", f"run {run_id} was not finished in time"


def flwr_run(
    app_dir: Path,
    *,
    num_supernodes: int,
    home: Path | None = None,
    run_config: Mapping[str, ConfigValue] | None = None,
    timeout: float = 120.0,
    backend: Backend = Backend(),
) -> CompletedRun:
    """One run in a Flower of its own; see `LocalFlower.run`."""
    with LocalFlower(home=home) as flower:
        return flower.run(app_dir, num_supernodes=num_supernodes, run_config=run_config, timeout=timeout, backend=backend)


def _flwr() -> list[str]:
    beside = Path(sys.executable).parent / "flwr"
    found = str(beside) if beside.exists() else shutil.which("flwr")
    if found is None:
        raise RuntimeError("no `flwr` command: install flwr[simulation]")
    return [found]


def _plain(path: Path) -> str:
    return _ANSI.sub("", path.read_text(encoding="utf-8", errors="replace"))
