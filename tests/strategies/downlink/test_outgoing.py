"""The messages of a round and their replies: whatever nodes do, each that answers has trained from what the server meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import from_arrays, to_arrays
from flwr_robustcomp.clients.incoming import with_model
from flwr_robustcomp.compressors import Drive, Eden
from flwr_robustcomp.downlink import Downlink
from flwr_robustcomp.downlink.records import HEADER, HELD, RESEND, Held, Resend, array_bytes
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import Run, empty_run, envelope, private_copy
from flwr_robustcomp.flower import addressed as joined
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.strategies.downlink.outgoing import Outgoing
from flwr_robustcomp.strategies.nodes.history import RunHistory

Model = dict[str, torch.Tensor]

TRICKS = (
    "honest",
    "honest",
    "honest",
    "loses its state",
    "lies about its version",
    "asks for ever",
    "errs",
    "is silent",
    "garbage",
)


class Party(Grid):
    """Nodes that do what they are told to, on a grid that counts what passes."""

    def __init__(self, nodes: int) -> None:
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in range(1, nodes + 1)}
        self.tricks: dict[int, str] = {}
        self.trained: dict[int, Model] = {}
        self.bytes = 0
        self.models: dict[int, int] = {}
        self.unpacks = True
        self._ids = 0

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return empty_run(1)

    def create_message(self, *args: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, *args: Any, **options: Any) -> Iterable[Message]:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = []
        for message in messages:
            self._ids += 1
            envelope(message, str(self._ids))
            self.bytes += array_bytes(message.content)
            node = message.metadata.dst_node_id
            self.models[node] = self.models.get(node, 0) + 1
            reply = self._answer(node, joined(private_copy(message.content), message.metadata))
            replies += [] if reply is None else [reply]
        return replies

    def _answer(self, node: int, message: Message) -> Message | None:
        trick, context = self.tricks.get(node, "honest"), self.contexts[node]
        if trick == "is silent":
            return None
        if trick == "loses its state":
            context.state.clear()
        if trick == "errs":
            return Message(Error(0, "its own fault"), reply_to=message)
        if trick == "asks for ever":
            return Message(RecordDict({RESEND: Resend(why="once more\n" * 20).record()}), reply_to=message)
        if not self.unpacks:
            packed = any(array.stype.startswith("robustcomp/") for array in message.content.array_records["arrays"].values())
            return Message(Error(0, "no such stype"), reply_to=message) if packed else self._train(node, message)
        reply = with_model(message, context, lambda dense: self._train(node, dense))
        if trick == "lies about its version":
            reply.content[HELD] = Held(version=1 + node % 5, digest="f" * 16).record()
        if trick == "garbage":
            reply.content[HELD] = ConfigRecord({"version": -3, "digest": 1.5})
        return reply

    def _train(self, node: int, message: Message) -> Message:
        assert HEADER not in message.content
        self.trained[node] = from_arrays(message.content.array_records["arrays"])
        return Message(RecordDict({"metrics": MetricRecord({"loss": 1.0})}), reply_to=message)


def _model(seed: int) -> Model:
    rng = generator(seed, "model")
    return {
        "w": torch.from_numpy(rng.standard_normal((30, 40))).float(),
        "b": torch.from_numpy(rng.standard_normal(3)).half(),
        "n": torch.tensor(seed),
    }


def _round(outgoing: Outgoing, party: Party, model: Model, nodes: Iterable[int], kind: str = "train") -> list[Message]:
    arrays = to_arrays(model)
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
    party.trained, party.bytes, party.models = {}, 0, {}
    messages = outgoing.pack(arrays, [Message(content, node, kind) for node in nodes], party)
    return list(outgoing.collect(party.send_and_receive(messages)))


def _outgoing(downlink: Downlink | None = None, **options: Any) -> Outgoing:
    return Outgoing(downlink or Downlink(**options), "arrays", RunHistory(None, None))


DOWNLINKS = st.sampled_from(
    [
        Downlink(),
        Downlink(Drive(), None, keep=2),
        Downlink(Drive(), Eden(bits=2), keep=1, resends=2),
        Downlink(None, Eden(bits=4)),
        Downlink(resends=0),
    ]
)


@given(DOWNLINKS, st.data())
def test_whoever_answers_has_trained_from_what_was_meant(downlink: Downlink, data: st.DataObject) -> None:
    outgoing, party = _outgoing(downlink), Party(5)
    seen_by_server: dict[str, Model] = {}
    for round_ in range(1, data.draw(st.integers(2, 9), "rounds")):
        nodes = data.draw(st.sets(st.sampled_from([1, 2, 3, 4, 5]), min_size=1), "sampled")
        party.tricks = {node: data.draw(st.sampled_from(TRICKS), f"trick of {node}") for node in nodes}
        model = _model(data.draw(st.sampled_from([round_, round_ - 1]), "model"))
        replies = _round(outgoing, party, model, nodes)
        ring = outgoing.contents.ring
        seen_by_server = {"w": model} | ({} if ring is None else {"v": ring.replica.model()})
        for reply in replies:
            node = reply.metadata.src_node_id
            assert HELD not in reply.content if reply.has_content() else True
            assert reply.metadata.reply_to_message_id in {str(i) for i in range(party._ids + 1)}
            if reply.has_content():
                got = party.trained[node]
                meant = [all(torch.equal(got[name], one[name]) for name in one) for one in seen_by_server.values()]
                close = float((got["w"] - model["w"]).norm()) <= 0.36 * float(model["w"].norm()) and downlink.model is not None
                assert any(meant) or close, "a model that nobody sent"
        asked_for_ever = [node for node, trick in party.tricks.items() if trick == "asks for ever"]
        assert not {reply.metadata.src_node_id for reply in replies} & set(asked_for_ever)
        honest = {node for node, trick in party.tricks.items() if trick in ("honest", "lies about its version", "garbage")}
        answered = {reply.metadata.src_node_id for reply in replies if reply.has_content()}
        if downlink.resends:
            assert honest <= answered, "a node that can read did not get what it reads"
        assert max(party.models.values()) <= 1 + downlink.resends
        assert outgoing.traffic.sent == party.bytes, "what is counted is what was sent"
        dense = array_bytes(to_arrays(model)) * len(nodes)
        assert outgoing.traffic.dense == dense
        assert party.bytes <= (1 + downlink.resends) * dense * 1.2 + 400


def test_a_round_costs_a_few_bits_and_a_second_use_of_a_model_none() -> None:
    outgoing, party = _outgoing(), Party(4)
    _round(outgoing, party, _model(1), [1, 2, 3, 4])
    assert outgoing.traffic.sent < 0.3 * outgoing.traffic.dense
    _round(outgoing, party, _model(2), [1, 2, 3, 4])
    assert outgoing.traffic.sent < 0.12 * outgoing.traffic.dense
    _round(outgoing, party, _model(2), [1, 2, 3, 4], kind="evaluate")
    assert outgoing.traffic.sent == 0, "the nodes hold it already"
    assert outgoing.traffic.forms == {"replica": 4}


def test_nodes_that_get_the_same_share_one_content() -> None:
    outgoing, party = _outgoing(), Party(4)
    _round(outgoing, party, _model(1), [1, 2, 3])
    arrays = to_arrays(_model(2))
    content = RecordDict({"arrays": arrays})
    packed = outgoing.pack(arrays, [Message(content, node, "train") for node in (1, 2, 3, 4)], party)
    assert packed[0].content is packed[1].content is packed[2].content
    assert packed[3].content is not packed[0].content, "a node that holds nothing needs more"
    assert content["arrays"] is arrays, "the strategy's own content is left alone"


def test_missed_changes_are_sent_while_that_is_cheaper() -> None:
    outgoing, party = _outgoing(replica=Drive(), model=Eden(bits=4)), Party(2)
    forms: list[str] = []
    for round_ in range(1, 9):
        _round(outgoing, party, _model(round_), [1])
        if round_ in (1, 3, 8):
            _round(outgoing, party, _model(round_), [2], kind="train")
            forms.append(*outgoing.traffic.forms)
    assert forms == ["replica", "replica", "quantised"]


def test_a_lost_state_is_mended_in_the_same_round(caplog: pytest.LogCaptureFixture) -> None:
    outgoing, party = _outgoing(), Party(3)
    _round(outgoing, party, _model(1), [1, 2, 3])
    party.contexts[2].state.clear()
    replies = _round(outgoing, party, _model(2), [1, 2, 3])
    assert len(replies) == 3
    assert [*outgoing.traffic.again] == [2]
    (line,) = [
        record.getMessage() for record in caplog.records if "again" in record.getMessage() and "node 2" in record.getMessage()
    ]
    assert "this node holds no version" in line
    ring = outgoing.contents.ring
    assert ring is not None
    assert torch.equal(party.trained[2]["w"], ring.replica.model()["w"])
    _round(outgoing, party, _model(3), [1, 2, 3])
    assert not outgoing.traffic.again, "it went on from there"


def test_an_app_that_does_not_unpack_gets_dense_models(caplog: pytest.LogCaptureFixture) -> None:
    outgoing, party = _outgoing(), Party(2)
    party.unpacks = False
    replies = _round(outgoing, party, _model(1), [1, 2])
    assert all(reply.has_content() for reply in replies)
    assert torch.equal(party.trained[1]["w"], _model(1)["w"])
    assert "if its app does not unpack" in caplog.text
    caplog.clear()
    _round(outgoing, party, _model(2), [1, 2])
    assert outgoing.traffic.sent == outgoing.traffic.dense
    assert not caplog.text, "it is said once"


def test_an_app_that_errs_for_itself_is_sent_it_again_three_times() -> None:
    outgoing, party = _outgoing(), Party(2)
    party.tricks = {1: "errs", 2: "errs"}
    for round_ in range(1, 6):
        replies = _round(outgoing, party, _model(round_), [1, 2] if round_ == 1 else [1])
        assert all(reply.has_error() for reply in replies)
        assert party.models[1] == (2 if round_ <= 3 else 1)
    party.tricks = {}
    _round(outgoing, party, _model(6), [2])
    assert "dense" not in outgoing.traffic.forms, "a single crash says nothing of the app"


def test_it_goes_on_from_a_checkpoint() -> None:
    party, curve = Party(3), []
    outgoing = _outgoing(replica=Drive())
    for round_ in (1, 2, 3):
        _round(outgoing, party, _model(round_), [1, 2] if round_ < 3 else [1, 2, 3])
    state = outgoing.state()
    states = {node: RecordDict(dict(context.state)) for node, context in party.contexts.items()}
    for one in (outgoing, _outgoing(replica=Drive())):
        if one is not outgoing:
            one.restore(state)
        for node, context in party.contexts.items():
            context.state = RecordDict(dict(states[node]))
        sizes = []
        for round_ in (3, 4, 5):
            _round(one, party, _model(round_), [1, 2, 3])
            assert not one.traffic.again
            sizes.append((one.traffic.sent, sorted(one.traffic.forms), party.trained[2]["w"].tolist()))
        curve.append(sizes)
    assert curve[0] == curve[1]


@pytest.mark.parametrize("record", ["robustcomp.downlink.version", "robustcomp.downlink.replica", "robustcomp.downlink.nodes"])
def test_a_checkpoint_that_is_damaged_is_one_line(record: str) -> None:
    outgoing, party = _outgoing(), Party(1)
    _round(outgoing, party, _model(1), [1])
    state = outgoing.state()
    state[record] = ConfigRecord({"version": 3})
    before = outgoing.state()
    with pytest.raises(ConfigurationError) as error:
        outgoing.restore(state)
    assert "\n" not in str(error.value)
    assert {name: dict(one) for name, one in outgoing.state().items()} == {name: dict(one) for name, one in before.items()}


def test_a_checkpoint_from_before_begins_anew() -> None:
    outgoing, party = _outgoing(), Party(2)
    _round(outgoing, party, _model(1), [1, 2])
    outgoing.restore(RecordDict())
    assert len(_round(outgoing, party, _model(2), [1, 2])) == 2
    assert not outgoing.traffic.again, "nodes that hold a version that the server forgot build the first one anew"


def test_without_a_downlink_messages_pass() -> None:
    outgoing, party = Outgoing(None, "arrays", RunHistory(None, None)), Party(2)
    replies = _round(outgoing, party, _model(1), [1, 2])
    assert len(replies) == 2
    assert outgoing.traffic.sent == outgoing.traffic.dense == party.bytes
    assert not outgoing.traffic.forms
    assert not outgoing.state()


def test_a_model_of_ones_own_in_a_message_is_left_alone() -> None:
    outgoing, party = _outgoing(), Party(1)
    arrays, own = to_arrays(_model(1)), ArrayRecord(dict(to_arrays(_model(9))))
    (message,) = outgoing.pack(arrays, [Message(RecordDict({"arrays": own}), 1, "train")], party)
    assert message.content["arrays"] is own


def test_replies_that_break_off_are_read_as_far_as_they_came() -> None:
    outgoing, party = _outgoing(), Party(2)
    arrays = to_arrays(_model(1))
    sent = outgoing.pack(arrays, [Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)], party)

    def breaking() -> Iterable[Message]:
        yield from party.send_and_receive(sent[:1])
        raise OSError("the connection is gone")

    collected = iter(outgoing.collect(breaking()))
    assert HELD not in next(collected).content
    with pytest.raises(OSError, match="gone"):
        next(collected)


def test_without_a_quantiser_the_first_model_is_dense_and_the_second_a_change() -> None:
    outgoing, party = _outgoing(Downlink(Drive(), None)), Party(2)
    sizes = []
    for round_ in (1, 2, 3):
        _round(outgoing, party, _model(round_), [1, 2])
        sizes.append(outgoing.traffic.sent / outgoing.traffic.dense)
    assert sizes[0] == 1
    assert max(sizes[1:]) < 0.15


def test_a_node_that_holds_the_target_already_trains() -> None:
    """Its last reply came too late, and the server does not know."""
    outgoing, party = _outgoing(), Party(2)
    _round(outgoing, party, _model(1), [1, 2])
    arrays = to_arrays(_model(2))
    content = RecordDict({"arrays": arrays})
    lost = outgoing.pack(arrays, [Message(content, 1, "train")], party)
    list(party.send_and_receive(lost))
    (reply,) = _round(outgoing, party, _model(2), [1])
    assert reply.has_content()
    assert not outgoing.traffic.again


@pytest.mark.parametrize("case", ["no resends", "no time"])
def test_an_app_that_does_not_unpack_gets_dense_models_though_none_is_sent_again(case: str) -> None:
    outgoing, party = _outgoing(resends=0 if case == "no resends" else 1), Party(2)
    party.unpacks = False
    outgoing.timeout = 0.0 if case == "no time" else None
    assert not _round(outgoing, party, _model(1), [1, 2])
    assert not outgoing.traffic.again, "nothing was sent again"
    assert len(_round(outgoing, party, _model(2), [1, 2])) == 2
    assert outgoing.traffic.forms == {"dense": 2}


def test_a_node_that_was_not_reached_has_said_nothing_of_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, party = _outgoing(), Party(1)
    with monkeypatch.context() as patch:
        patch.setattr(party, "_answer", lambda _, message: Message(Error(5, "Node unavailable"), reply_to=message))
        (reply,) = _round(outgoing, party, _model(1), [1])
    assert reply.has_error()
    assert not outgoing.traffic.again
    _round(outgoing, party, _model(2), [1])
    assert "dense" not in outgoing.traffic.forms


def test_a_node_that_asks_twice_at_once_is_sent_the_model_once() -> None:
    outgoing, party = _outgoing(), Party(1)
    arrays = to_arrays(_model(1))
    (sent,) = outgoing.pack(arrays, [Message(RecordDict({"arrays": arrays}), 1, "train")], party)
    party.send_and_receive([sent])
    party.models = {}
    many = [Message(RecordDict({RESEND: Resend(why="more").record()}), reply_to=sent) for _ in range(9)]
    assert len(list(outgoing.collect(many))) == 1
    assert party.models == {1: 1}


def test_a_grid_that_fails_when_it_sends_again_loses_only_those(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, party = _outgoing(), Party(2)
    _round(outgoing, party, _model(1), [1, 2])
    party.contexts[2].state.clear()
    arrays = to_arrays(_model(2))
    replies = party.send_and_receive(
        outgoing.pack(arrays, [Message(RecordDict({"arrays": arrays}), node, "train") for node in (1, 2)], party)
    )

    def broken(*_: Any, **__: Any) -> Iterable[Message]:
        raise OSError("the connection is gone")

    monkeypatch.setattr(party, "send_and_receive", broken)
    assert [reply.metadata.src_node_id for reply in outgoing.collect(replies)] == [1]


def test_a_model_of_other_arrays_begins_a_new_replica(caplog: pytest.LogCaptureFixture) -> None:
    outgoing, party = _outgoing(), Party(2)
    _round(outgoing, party, _model(1), [1, 2])
    _round(outgoing, party, _model(2), [1, 2])
    for seed in (3, 4):
        grown = {**_model(seed), "more": torch.ones(700) * seed}
        assert len(_round(outgoing, party, grown, [1, 2])) == 2
        assert not outgoing.traffic.again
        assert outgoing.traffic.forms == {"replica": 2}
        assert [*party.trained[1]] == [*grown]
    assert "the replica begins anew" in caplog.text


def test_a_run_begins_without_what_the_last_one_left() -> None:
    outgoing, party = _outgoing(), Party(2)
    for seed in (1, 2):
        _round(outgoing, party, _model(seed), [1, 2])
    outgoing.begin(None)
    fresh = Party(2)
    _round(outgoing, fresh, _model(3), [1, 2])
    assert outgoing.traffic.forms == {"replica": 2}
    assert not outgoing.traffic.again
    assert float((fresh.trained[1]["w"] - _model(3)["w"]).norm()) < 0.12 * float(_model(3)["w"].norm())
    other = _outgoing()
    other.restore(outgoing.state())
    other.begin(None)
    assert other.state().keys() == outgoing.state().keys()
    _round(other, fresh, _model(4), [1, 2])
    assert not other.traffic.again, "it went on from the checkpoint"


def test_each_of_two_messages_to_a_node_is_sent() -> None:
    outgoing, party = _outgoing(), Party(1)
    arrays, own = to_arrays(_model(1)), to_arrays(_model(9))
    plain = [Message(RecordDict({"arrays": one}), 1, "evaluate") for one in (arrays, own)]
    first, second = outgoing.pack(arrays, plain, party)
    assert HEADER in first.content
    assert second.content["arrays"] is own


def test_a_dense_first_version_is_kept_and_built_upon() -> None:
    outgoing, party = _outgoing(replica=Drive(), model=None), Party(2)
    for seed in (1, 2):
        _round(outgoing, party, _model(seed), [1, 2])
        assert outgoing.traffic.forms == {"replica": 2}
    assert outgoing.traffic.sent < 0.1 * outgoing.traffic.dense


def test_numbers_that_are_not_finite_travel_once() -> None:
    outgoing, party = _outgoing(replica=Drive()), Party(2)
    mask = torch.full((40, 40), -torch.inf).triu(1)
    for seed in (1, 2):
        _round(outgoing, party, {**_model(seed), "mask": mask}, [1, 2])
        assert outgoing.traffic.forms == {"replica": 2}
        assert torch.equal(party.trained[1]["mask"], mask)
    assert outgoing.traffic.sent < 0.1 * outgoing.traffic.dense


def test_models_of_the_same_bytes_and_other_shapes_are_told_apart() -> None:
    outgoing, party = _outgoing(replica=None), Party(1)
    for shape in ((30, 40), (40, 30)):
        _round(outgoing, party, {"w": _model(1)["w"].reshape(shape)}, [1])
        assert party.trained[1]["w"].shape == shape


def test_a_model_without_arrays_is_sent_as_it_is() -> None:
    outgoing, party = _outgoing(), Party(1)
    assert len(_round(outgoing, party, {}, [1])) == 1
    assert outgoing.traffic.forms == {"dense": 1}


def test_nodes_that_are_sent_the_replica_again_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing, party = _outgoing(), Party(4)
    _round(outgoing, party, _model(1), [1, 2, 3, 4])
    for context in party.contexts.values():
        context.state.clear()
    send, sent = party.send_and_receive, []

    def watched(messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        sent.append([message.content.array_records["arrays"] for message in messages])
        return send(messages, timeout=timeout)

    monkeypatch.setattr(party, "send_and_receive", watched)
    assert len(_round(outgoing, party, _model(2), [1, 2, 3, 4])) == 4
    assert len({id(record["w"].data) for record in sent[1]}) == 1, "a model for each node would fill the memory"


def test_a_grid_is_not_kept_after_a_round() -> None:
    outgoing, party = _outgoing(), Party(1)
    _round(outgoing, party, _model(1), [1])
    assert party not in vars(outgoing).values()
