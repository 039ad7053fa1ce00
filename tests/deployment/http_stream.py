"""HTTP/1.1 messages in a stream of bytes, cut into heads and bodies and counted by what they ask for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HttpStream", "Tally", "path_of"]

_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_ENCODING = re.compile(rb"^(?:content|transfer)-encoding:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass
class Tally:
    """Messages of one kind: how many, the bytes of their heads and of their bodies."""

    messages: int = 0
    head: int = 0
    body: int = 0

    def add(self, head: int, body: int) -> None:
        """Count one more."""
        self.messages += 1
        self.head += head
        self.body += body


class HttpStream:
    """Cut a stream of messages with ``Content-Length``.

    Parameters
    ----------
    begin : callable
        Called with the head of each message and the length of its body, as soon as the head is there.

    Attributes
    ----------
    left : int
        Bytes of the current body that are still to come.
    encodings : set of str
        What ``Content-Encoding`` and ``Transfer-Encoding`` say: compression, or bodies that this class cannot count.
    """

    def __init__(self, begin: Callable[[bytes, int], None]) -> None:
        self._begin = begin
        self._buffer = b""
        self.left = 0
        self.encodings: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Count more bytes of the stream."""
        self._buffer += data
        while self._buffer:
            if self.left:
                taken = min(self.left, len(self._buffer))
                self._buffer, self.left = self._buffer[taken:], self.left - taken
                continue
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._buffer = rest
            lines = head.replace(b"\r\n", b"\n")
            self.encodings.update(found.decode("ascii", "replace") for found in _ENCODING.findall(lines))
            length = _LENGTH.search(lines)
            self.left = int(length[1]) if length else 0
            self._begin(head + end, self.left)


def path_of(head: bytes) -> str:
    """Return the last part of the path that a request asks for, such as ``"push-object"``."""
    return head.split(b" ", 2)[1].rsplit(b"/", 1)[-1].decode("ascii", "replace")
