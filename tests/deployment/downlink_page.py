"""The traffic of the deployment with a compressed downlink, as the page docs/downlink-deployment.md shows it.

`make test-deployment` with ``WRITE_PAGE=1`` in the environment writes the page.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.deployment.downlink_scenario import COORDINATES, ROUNDS, Stories
from tests.deployment.http_stream import Tally
from tests.deployment.relay import RECORD_OVERHEAD, Traffic

__all__ = ["Direction", "directions", "page"]

_HEAD = f"""# A deployment with a compressed downlink

Written by `WRITE_PAGE=1 make test-deployment`: what six SuperNodes and a SuperLink said to each other in {ROUNDS} rounds, over
TLS and with a key for every SuperNode, as in [Deploy](deployment.md). The app is examples/quickstart-robust with a hidden layer
eight times as wide (d = {COORDINATES:,}) and `robustcomp.downlink = {{ name = "replica" }}`. Every node trains and evaluates in
every round; two are away for half of the run. *Dense* is what the same messages would have carried without compression.
"""

_SOCKETS = f"""
## What crossed the sockets

A relay before the SuperLink counted the bytes of every SuperNode's sockets, and read the requests in them. *Arrays* is what the
strategy counts: `robustcomp.bytes-sent` and `robustcomp.evaluation-bytes-sent` down, `robustcomp.bytes-received` up.

- *Frames*: a message is a tree of objects (message, records, Arrays, chunks), and each has names, ids and a shape beside its
  data: less than 512 bytes an object.
- *Heads*: of HTTP requests up, most of which is a signature; of answers down.
- *Other requests*: the app itself, once a SuperNode; looking for messages, here every 0.4 s and not every 3 s; heartbeats;
  lists of objects.
- *TLS*: {RECORD_OVERHEAD} bytes a record, and a handshake a connection.

Flower compresses nothing on the way: no answer and no request has a `Content-Encoding`.
"""


_STORIES = (
    ("restarted", "gets the model again"),
    ("doomed", "rejected node"),
    ("sleeper", "catch up"),
    ("liar", "gets the model again"),
    ("liar", "never sent"),
)
"""Whose line it is, and words of it."""

_TOLD = """
## The stories, as the log tells them

*restarted* was stopped and started again with an empty home; under the same key it has the same node id. *doomed* was killed
while it read a packed Array. *sleeper* stood still for six rounds. *liar* throws away the replica that it says it holds, and
later names a version that never was: it costs a second message to itself.
"""


class Direction:
    """What went one way, all SuperNodes together.

    Attributes
    ----------
    arrays : int
        Bytes that the strategy counted.
    objects : Tally
        The messages that carry objects: of ``pull-object`` down, of ``push-object`` up.
    lost : int
        Bytes of objects that were on their way when a SuperNode died.
    """

    def __init__(self, arrays: int, carrier: str, tallies: Iterable[dict[str, Tally]], lost: int = 0) -> None:
        self.arrays = arrays
        self.lost = lost
        self.objects, self._others = Tally(), Tally()
        for tally in tallies:
            for path, one in tally.items():
                into = self.objects if path == carrier else self._others
                into.messages += one.messages
                into.head += one.head
                into.body += one.body

    @property
    def frames(self) -> int:
        """Bytes beside the arrays in what carries objects."""
        return self.objects.body - self.lost - self.arrays

    def rows(self, total: int, records: int, connections: int) -> list[tuple[str, int]]:
        """Return the parts of what crossed the sockets."""
        heads = self.objects.head + self._others.head
        named = [("arrays", self.arrays), (f"frames of {self.objects.messages} objects", self.frames)]
        named += [(f"heads of {self.objects.messages + self._others.messages} messages", heads)]
        named += [("other requests", self._others.body), (f"{records} TLS records", RECORD_OVERHEAD * records)]
        return [*named, (f"{connections} TLS handshakes", total - sum(size for _, size in named)), ("all", total)]


def directions(stories: Stories) -> tuple[Direction, Direction]:
    """Return what went down and up."""
    every = list(stories.traffic.values())
    down = Direction(stories.packed.sent, "pull-object", [one.responses for one in every], sum(one.cut for one in every))
    return down, Direction(stories.packed.received, "push-object", [one.requests for one in every])


def page(stories: Stories) -> str:
    """Return the page."""
    down, up = directions(stories)
    every = list(stories.traffic.values())
    connections = _sum(every, "connections")
    tables = [
        "\n".join(["", f"*{name}*", "", *_table([("part", "bytes"), *((part, f"{size:,}") for part, size in rows)])])
        for name, rows in (
            ("Down", down.rows(_sum(every, "down"), _sum(every, "records_down"), connections)),
            ("Up", up.rows(_sum(every, "up"), _sum(every, "records"), connections)),
        )
    ]
    return (
        "\n".join(
            [
                _HEAD,
                *_against_dense(stories),
                _SOCKETS,
                *tables,
                "",
                "## The stories, as the log tells them",
                "",
                *_lines(stories),
            ]
        )
        + "\n"
    )


def _against_dense(stories: Stories) -> list[str]:
    played = stories.packed
    counted = [
        ("down, training", played.asked("train"), played.sent_in("train")),
        ("down, evaluation", played.asked("evaluate"), played.sent_in("evaluate")),
        ("up", played.replies, played.received),
    ]
    counted.append(("both ways", sum(messages for _, messages, _ in counted), sum(packed for *_, packed in counted)))
    rows = [(name, f"{messages:,}", *_ratio(4 * COORDINATES * messages, packed)) for name, messages, packed in counted]
    return _table([("direction", "messages", "dense, bytes", "packed, bytes", "dense / packed"), *rows])


def _ratio(dense: int, packed: int) -> tuple[str, str, str]:
    return f"{dense:,}", f"{packed:,}", f"{dense / packed:.1f}"


def _lines(stories: Stories) -> list[str]:
    """Return the first line of each story, with names in the place of node ids."""
    found = []
    for name, words in _STORIES:
        line = next(iter(stories.packed.lines(stories.ids[name], words)), "")
        for other, node in stories.ids.items():
            line = line.replace(str(node), f"<{other}>")
        found.append(line)
    return ["```text", *found, "```"]


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    return [head, f"|---{'|---:' * (head.count(' | '))}|", *rest]


def _sum(every: Iterable[Traffic], name: str) -> int:
    return sum(getattr(one, name) for one in every)
