"""`python -m tests.deployment`: play the deployment of docs/deployment.md; print its log and what crossed a socket."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.deployment.relay import RECORD_OVERHEAD, Traffic
from tests.deployment.scenario import PACKED, ROUNDS, play


def table(traffic: Traffic) -> str:
    """Return what the first SuperNode sent, as Markdown."""
    rows: list[tuple[str, ...]] = [("part", "requests", "heads", "bodies", "bytes")]
    for path, tally in sorted(traffic.requests.items(), key=lambda item: -(item[1].head + item[1].body)):
        numbers = (tally.messages, tally.head, tally.body, tally.head + tally.body)
        rows.append((f"`{path}`", *(f"{number:,}" for number in numbers)))
    records = RECORD_OVERHEAD * traffic.records
    rest = traffic.up - traffic.plain - records
    rows.append((f"{traffic.records} TLS records of {RECORD_OVERHEAD}", "", "", "", f"{records:,}"))
    rows.append((f"{traffic.connections} TLS handshakes", "", "", "", f"{rest:,}"))
    rows.append(("all", "", "", "", f"{traffic.up:,}"))
    rows.insert(1, ("---", "---:", "---:", "---:", "---:"))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    reply = [traffic.requests["push-messages"], traffic.requests["push-object"]]
    requests = sum(tally.messages for tally in reply)
    sent = sum(tally.head + tally.body for tally in reply) + 2 * RECORD_OVERHEAD * requests  # a head and a body: two records
    frame, fields = sent / ROUNDS - PACKED, traffic.requests["push-object"].body - ROUNDS * PACKED
    lines += [
        "",
        f"{ROUNDS} replies of {PACKED:,} packed bytes; around each stood {frame:,.0f} bytes: {requests // ROUNDS} requests,",
        f"their heads and TLS records, and {fields / ROUNDS:,.0f} bytes of fields beside the objects.",
        f"Received: {traffic.down:,} bytes.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="deployment-") as folder:
        outcome = play(Path(folder))
    print(outcome.log, table(outcome.traffic), sep="\n")
