"""A relay before the SuperLink that counts what crosses the socket, and which request of the Fleet API it belongs to.

It ends TLS with the SuperLink's own certificate, so that it can read the requests, and opens TLS anew towards the SuperLink.
What the SuperNode's socket carries is counted as ciphertext, before it is decrypted. It can stop in the middle of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.deployment.credentials import Certificates
from tests.deployment.http_stream import HttpStream, Tally, path_of

__all__ = ["RECORD_OVERHEAD", "Relay", "Traffic", "relay"]

RECORD_OVERHEAD = 22
"""Bytes that TLS 1.3 adds to a record: 5 of header, 1 of content type, 16 of authentication tag (RFC 8446, section 5.2)."""

_RECORD = 16384
"""The most bytes that a record carries."""


@dataclass
class Traffic:
    """What a SuperNode's sockets carried.

    Attributes
    ----------
    up, down : int
        Bytes on the sockets, TLS included, without TCP's and IP's own headers.
    connections : int
        TCP connections, with one TLS handshake each.
    records, records_down : int
        TLS records of application data.
    versions : set of str
        Of TLS, as negotiated.
    requests, responses : dict of str to Tally
        By the last part of the path, such as ``"push-object"``.
    encodings : set of str
        Of HTTP's bodies; none where nothing is compressed on the way.
    cut : int
        Bytes of bodies, counted in `responses`, that never reached the SuperNode.
    """

    up: int = 0
    down: int = 0
    connections: int = 0
    records: int = 0
    records_down: int = 0
    versions: set[str] = field(default_factory=set)
    requests: dict[str, Tally] = field(default_factory=dict)
    responses: dict[str, Tally] = field(default_factory=dict)
    encodings: set[str] = field(default_factory=set)
    cut: int = 0

    @property
    def plain(self) -> int:
        """Bytes of HTTP that came up."""
        return sum(tally.head + tally.body for tally in self.requests.values())

    @property
    def plain_down(self) -> int:
        """Bytes of HTTP that went down."""
        return sum(tally.head + tally.body for tally in self.responses.values()) - self.cut


class _Exchange:
    """The requests of a connection and their answers, which come in the same order."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._asked: deque[str] = deque()
        self.answer = ("", 0)
        """The path of the request that is being answered, and the length of the body."""
        self.requests, self.responses = HttpStream(self._request), HttpStream(self._response)
        self.requests.encodings = self.responses.encodings = traffic.encodings

    def _request(self, head: bytes, body: int) -> None:
        path = path_of(head)
        self._asked.append(path)
        self._traffic.requests.setdefault(path, Tally()).add(len(head), body)

    def _response(self, head: bytes, body: int) -> None:
        self.answer = (self._asked.popleft(), body)
        self._traffic.responses.setdefault(self.answer[0], Tally()).add(len(head), body)


class Relay:
    """Serve one port of the loopback interface; `traffic` may be read at any time."""

    def __init__(self, certificates: Certificates, upstream: int) -> None:
        self.traffic = Traffic()
        self.port = 0
        self._upstream = upstream
        self._cuts: tuple[str, int] | None = None
        self.stopped = threading.Event()
        self._server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server_side.load_cert_chain(certificates.certificate, certificates.key)
        self._client_side = ssl.create_default_context(cafile=str(certificates.authority))

    def stop_within(self, path: str, least: int) -> None:
        """Stop in the middle of the next answer to such a request whose body has so many bytes; `stopped` says when."""
        self._cuts = (path, least)

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
                exchange = _Exchange(self.traffic)
                up = asyncio.ensure_future(self._up(reader, incoming, outgoing, tls, writer, upstream[1], exchange.requests))
                down = asyncio.ensure_future(self._down(upstream[0], outgoing, tls, writer, exchange))
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
        requests: HttpStream,
    ) -> None:
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
        self,
        upstream: asyncio.StreamReader,
        outgoing: ssl.MemoryBIO,
        tls: ssl.SSLObject,
        writer: asyncio.StreamWriter,
        exchange: _Exchange,
    ) -> None:
        while plain := await upstream.read(65536):
            exchange.responses.feed(plain)
            path, body = exchange.answer
            behind = body // 2 - exchange.responses.left  # bytes of this chunk that are of the body's second half
            cuts = self._cuts is not None and path == self._cuts[0] and body >= self._cuts[1] and behind >= 0
            passed = plain[: len(plain) - behind] if cuts else plain
            tls.write(passed)
            self.traffic.records_down += -(-len(passed) // _RECORD)
            self._send(outgoing, writer)
            await writer.drain()
            if cuts:
                self._cuts = None
                self.traffic.cut += body // 2
                self.stopped.set()
                await asyncio.Event().wait()  # until the connection is closed

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
