"""A relay before the SuperLink that counts what crosses the socket, and which request of the Fleet API it belongs to.

It ends TLS with the SuperLink's own certificate, so that it can read the requests, and opens TLS anew towards the SuperLink.
What the SuperNode's socket carries is counted as ciphertext, before it is decrypted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.deployment.credentials import Certificates

__all__ = ["RECORD_OVERHEAD", "Relay", "Tally", "Traffic", "relay"]

RECORD_OVERHEAD = 22
"""Bytes that TLS 1.3 adds to a record: 5 of header, 1 of content type, 16 of authentication tag (RFC 8446, section 5.2)."""

_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass
class Tally:
    """Requests to one path: how many, the bytes of their heads and of their bodies."""

    requests: int = 0
    head: int = 0
    body: int = 0


@dataclass
class Traffic:
    """What a SuperNode's sockets carried.

    Attributes
    ----------
    up, down : int
        Bytes on the sockets, TLS included, without TCP's and IP's own headers.
    connections : int
        TCP connections, with one TLS handshake each.
    records : int
        TLS records of application data that came up.
    versions : set of str
        Of TLS, as negotiated.
    requests : dict of str to Tally
        By the last part of the path, such as ``"push-object"``.
    """

    up: int = 0
    down: int = 0
    connections: int = 0
    records: int = 0
    versions: set[str] = field(default_factory=set)
    requests: dict[str, Tally] = field(default_factory=dict)

    @property
    def plain(self) -> int:
        """Bytes of HTTP that came up."""
        return sum(tally.head + tally.body for tally in self.requests.values())


class _Requests:
    """Cut a stream of HTTP/1.1 requests with ``Content-Length`` into heads and bodies."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._buffer = b""
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Count more bytes of the stream."""
        self._buffer += data
        while self._buffer:
            if self._left:
                taken = min(self._left, len(self._buffer))
                self._buffer, self._left = self._buffer[taken:], self._left - taken
                continue
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._buffer = rest
            path = head.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode("ascii", "replace")
            length = _LENGTH.search(head.replace(b"\r\n", b"\n"))
            self._left = int(length[1]) if length else 0
            tally = self._traffic.requests.setdefault(path, Tally())
            tally.requests += 1
            tally.head += len(head) + len(end)
            tally.body += self._left


class Relay:
    """Serve one port of the loopback interface; `traffic` may be read at any time."""

    def __init__(self, certificates: Certificates, upstream: int) -> None:
        self.traffic = Traffic()
        self.port = 0
        self._upstream = upstream
        self._server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server_side.load_cert_chain(certificates.certificate, certificates.key)
        self._client_side = ssl.create_default_context(cafile=str(certificates.authority))

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Relay until ``stop``."""
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._relay(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._server_side.wrap_bio(incoming, outgoing, server_side=True)
        self.traffic.connections += 1
        upstream = None
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream, ssl=self._client_side)
        try:
            if upstream is not None:
                up = asyncio.ensure_future(self._up(reader, incoming, outgoing, tls, writer, upstream[1]))
                down = asyncio.ensure_future(self._down(upstream[0], outgoing, tls, writer))
                _, pending = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            for one in [writer, *([upstream[1]] if upstream else [])]:
                one.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    await one.wait_closed()

    async def _up(
        self,
        reader: asyncio.StreamReader,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        tls: ssl.SSLObject,
        writer: asyncio.StreamWriter,
        upstream: asyncio.StreamWriter,
    ) -> None:
        requests = _Requests(self.traffic)
        shaken = False
        while data := await reader.read(65536):
            self.traffic.up += len(data)
            incoming.write(data)
            if not shaken:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    shaken = True
                    self.traffic.versions.add(str(tls.version()))
                self._send(outgoing, writer)
            while shaken:
                try:
                    plain = tls.read(65536)  # at most one record
                except ssl.SSLWantReadError:
                    break
                if not plain:
                    return
                self.traffic.records += 1
                requests.feed(plain)
                upstream.write(plain)
                await upstream.drain()

    async def _down(
        self, upstream: asyncio.StreamReader, outgoing: ssl.MemoryBIO, tls: ssl.SSLObject, writer: asyncio.StreamWriter
    ) -> None:
        while plain := await upstream.read(65536):
            tls.write(plain)
            self._send(outgoing, writer)
            await writer.drain()

    def _send(self, outgoing: ssl.MemoryBIO, writer: asyncio.StreamWriter) -> None:
        data = outgoing.read()
        self.traffic.down += len(data)
        writer.write(data)


@contextlib.contextmanager
def relay(certificates: Certificates, upstream: int) -> Iterator[Relay]:
    """Relay in a thread of its own to a SuperLink's port."""
    relay_, ready, started = Relay(certificates, upstream), threading.Event(), threading.Event()
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        control.append((asyncio.get_running_loop(), stop))
        started.set()
        await relay_.serve(ready, stop)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="relay")
    thread.start()
    try:
        if not ready.wait(30):
            raise RuntimeError("the relay did not start")
        yield relay_
    finally:
        if started.wait(30):
            loop, stop = control[0]
            loop.call_soon_threadsafe(stop.set)
        thread.join()
