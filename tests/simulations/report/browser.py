"""A headless Chromium, spoken to over a pipe (Chrome DevTools Protocol): no port, no driver, no network."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)


class Page:
    """One tab; keeps what the page logged, threw and asked of the network."""

    def __init__(self, reader: RawIOBase, writer: RawIOBase) -> None:
        self._reader, self._writer = reader, writer
        self._buffer, self._ids = b"", 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._session: str | None = None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._ids += 1
        message: dict[str, Any] = {"id": self._ids, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._ids:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Show a file at a width, in light or dark."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Page.navigate", url=path.as_uri())
        while self.script("document.readyState + location.protocol") != "completefile:":
            pass

    def script(self, expression: str) -> Any:
        """Evaluate an expression in the page."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, as a keyboard does."""
        for kind in ("keyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, text=text if kind == "keyDown" else ""
            )

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = self._reader.read(65536)
            assert piece, "the browser has ended"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown" or method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params))
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent" and params["request"]["url"] != "about:blank":
            self.requests.append(params["request"]["url"])


@contextmanager
def chromium() -> Iterator[Page]:
    """Yield a page of a browser that ends with the block."""
    assert EXECUTABLE is not None
    to_browser, write = map(_above_four, os.pipe())
    read, from_browser = map(_above_four, os.pipe())

    def connect() -> None:  # it reads from descriptor 3 and writes to 4
        os.dup2(to_browser, 3)
        os.dup2(from_browser, 4)

    with tempfile.TemporaryDirectory(prefix="rct-chromium-", ignore_cleanup_errors=True) as profile:
        command = [EXECUTABLE, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            command, preexec_fn=connect, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "wb", buffering=0) as writer:
            try:
                yield Page(reader, writer)
            finally:
                with suppress(OSError):
                    writer.write(json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _above_four(descriptor: int) -> int:
    """Move a descriptor out of the way of those that the browser wants."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
