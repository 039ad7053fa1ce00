"""What the log says of nodes that missed changes, lie about their version, or are gone; each story is one line."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import Error, Message, RecordDict

from flwr_robustcomp import to_arrays
from flwr_robustcomp.compressors import Drive, Eden
from flwr_robustcomp.downlink import Downlink, Form
from flwr_robustcomp.downlink.records import HELD, Held
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.downlink.traffic import Traffic
from flwr_robustcomp.strategies.nodes.history import RunHistory
from tests.strategies.downlink.test_outgoing import Party, _model


def _round(outgoing: Outgoing, party: Party, seed: int, nodes: Iterable[int], error: int | None = None) -> list[Message]:
    arrays = to_arrays(_model(seed))
    messages = outgoing.pack(arrays, [Message(RecordDict({"arrays": arrays}), node, "train") for node in nodes], party)
    replies = list(party.send_and_receive(messages))
    if error is not None:
        replies = [Message(Error(error, "an error of Flower's"), reply_to=message) for message in messages]
    return list(outgoing.collect(replies))


def _outgoing() -> Outgoing:
    return Outgoing(Downlink(replica=Drive(), model=Eden(bits=8)), "arrays", RunHistory(None, None))


@pytest.mark.parametrize("code", [3, 4, 5])
def test_a_node_that_is_gone_says_nothing_of_its_app(code: int) -> None:
    outgoing, party = _outgoing(), Party(2)
    (reply,) = _round(outgoing, party, 1, [1], error=code)
    assert reply.has_error()
    assert not outgoing.traffic.again, "nobody is there to get it again"
    _round(outgoing, party, 2, [1])
    assert Form.DENSE not in outgoing.traffic.forms, "its app may unpack as well as any"


def test_who_missed_changes_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    outgoing, party = _outgoing(), Party(3)
    caplog.set_level("INFO", logger="flwr")
    _round(outgoing, party, 1, [1, 2, 3])
    _round(outgoing, party, 2, [1, 2])
    assert "catch up" not in caplog.text
    _round(outgoing, party, 3, [1])
    _round(outgoing, party, 4, [1, 2, 3])
    (line,) = [record.getMessage() for record in caplog.records if "catch up" in record.getMessage()]
    assert line.endswith("node 3 missed 3 (replica), node 2 missed 2 (replica)")


def test_a_line_names_a_few_nodes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="flwr")
    Traffic(missed={node: (2 + node, Form.QUANTISED) for node in range(20)}).say_missed()
    assert caplog.text.count("(quantised)") == 8
    assert "node 19 missed 21" in caplog.text
    assert "and 12 more nodes" in caplog.text


@pytest.mark.parametrize("said", [Held(version=9, digest="f" * 16), Held(version=1, digest="0" * 16)])
def test_a_version_that_never_was_is_told(said: Held, caplog: pytest.LogCaptureFixture) -> None:
    outgoing, party = _outgoing(), Party(1)
    arrays = to_arrays(_model(1))
    messages = outgoing.pack(arrays, [Message(RecordDict({"arrays": arrays}), 1, "train")], party)
    (reply,) = party.send_and_receive(messages)
    reply.content[HELD] = said.record()
    outgoing.collect([reply])
    assert f"node 1 says that it holds {said}, which was never sent" in caplog.text
    _round(outgoing, party, 2, [1])
    assert "never sent" not in caplog.text.partition("never sent")[2], "a node that says what is true again is believed"
