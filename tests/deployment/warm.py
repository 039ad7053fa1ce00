"""Flower's own processes, started in a tenth of the time: forked from one that has imported Flower and PyTorch.

A SuperNode starts a process for every message, which takes seconds of importing. Here the commands that Flower starts are
small scripts, first in ``PATH``, that ask a server on an abstract Unix socket for a fork; the fork does what the command does.
What the test starts is forked in the same way.

It also lets Flower look for messages more often than every three seconds, and notice sooner that a SuperNode is gone. All else
is Flower as it is installed.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

__all__ = ["READY", "Forked", "fork", "write_commands"]

READY = "ready to fork"

HEARTBEAT = 10
"""Seconds between two heartbeats of a SuperNode, at most, the least that Flower takes; a node is dead after two without one."""

_PATIENCE = 0.4
"""Seconds between two looks for messages, at most."""

_COMMANDS = {
    "flwr-clientapp": ("flwr.supernode.cli", "flwr_clientapp"),
    "flwr-serverapp": ("flwr.superlink.cli", "flwr_serverapp"),
    "flower-superexec": ("flwr.supercore.cli", "flower_superexec"),
    "flower-supernode": ("flwr.supernode.cli", "flower_supernode"),
    "flower-superlink": ("flwr.superlink.cli", "flower_superlink"),
    "flwr": ("flwr.cli.app", "app"),
}

_LOOKING = ("flwr.superlink.grid.http_grid", "flwr.supernode.start_client_internal")
"""Modules that sleep between two looks."""

_BEATING = ("flwr.supercore.heartbeat", "flwr.supernode.fleet_http_connection")
"""Modules that know the interval of heartbeats."""

_APPS = (
    "torch._dynamo",
    "torch.utils.data",
    "sklearn.datasets",
    "flwr_robustcomp",
    "flwr.app",
    "flwr.clientapp",
    "flwr.serverapp",
)
"""What the apps import; the first is what PyTorch imports for an optimizer, more than a second of it."""

_STUB = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
    asked.connect({address!r})
    order = json.dumps([{command!r}, sys.argv[1:], dict(os.environ), os.getcwd()])
    socket.send_fds(asked, [order.encode()], [0, 1, 2])
    asked.recv(64)
"""


class Forked:
    """A process that was forked for this one; nobody learns how it ended."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """Return 0 if it is over, else None."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until it is over."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} did not end in {timeout:g} s")
            time.sleep(0.05)
        return 0


def fork(name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int) -> Forked:
    """Ask the server of a name for a process whose output goes to a file descriptor."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking, Path(os.devnull).open("rb") as nothing:
        asking.connect(f"\0{name}")
        order = json.dumps([command[0], list(command[1:]), dict(environment), str(folder)])
        socket.send_fds(asking, [order.encode()], [nothing.fileno(), output, output])
        return Forked(int(asking.recv(64)))


def write_commands(folder: Path, name: str) -> Path:
    """Write the scripts that ask the server of a name; return their folder, to be the first in ``PATH``."""
    folder.mkdir()
    for command in ("flwr-clientapp", "flwr-serverapp", "flower-superexec"):
        script = folder / command
        script.write_text(_STUB.format(python=sys.executable, address=f"\0{name}", command=command), encoding="utf-8")
        script.chmod(0o755)
    return folder


def _hasten() -> None:
    """Let Flower look for messages more often, and send heartbeats more often."""
    hasty = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, _PATIENCE))})
    for module in map(importlib.import_module, _LOOKING):
        module.time = hasty  # type: ignore[attr-defined]
    for module in map(importlib.import_module, _BEATING):
        module.HEARTBEAT_DEFAULT_INTERVAL = HEARTBEAT  # type: ignore[attr-defined]


def _command(name: str) -> Callable[[], object]:
    module, function = _COMMANDS[name]
    found: Callable[[], object] = getattr(importlib.import_module(module), function)
    return found


def _serve(name: str) -> Callable[[], object]:
    """Serve until the process is ended; in each fork, return what it is to do."""
    for module in _APPS:
        importlib.import_module(module)
    for command in _COMMANDS:
        _command(command)
    gc.collect()
    gc.freeze()  # forks share what is here, as long as nobody writes to it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"\0{name}")
        listening.listen(64)
        print(READY, flush=True)
        while True:
            asking, _ = listening.accept()
            with asking:
                order, streams, _, _ = socket.recv_fds(asking, 1 << 20, 3)
                pid = os.fork()
                if pid == 0:
                    break
                asking.send(str(pid).encode())
            for stream in streams:
                os.close(stream)
    command, arguments, environment, folder = json.loads(order)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    random.seed()
    sys.argv = [command, *arguments]
    return _command(command)


if __name__ == "__main__":
    _hasten()
    command = _serve(sys.argv[1])
    code: object = 1
    try:
        code = command()
    except SystemExit as ended:
        code = ended.code
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(
            code if isinstance(code, int) else int(code is not None)
        )  # taking all of it down would write to what is shared
