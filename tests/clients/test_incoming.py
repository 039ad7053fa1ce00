"""A node unpacks what comes down before anybody's code sees it, and asks again for what it cannot read."""

from __future__ import annotations

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import from_arrays, to_arrays
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.clients.incoming import ARRAYS, Unreadable, receive, with_model
from flwr_robustcomp.compressors import Drive, Eden
from flwr_robustcomp.downlink import Form
from flwr_robustcomp.downlink.records import HEADER, HELD, RESEND, Header, Held, Resend, change_record, snapshot_record
from flwr_robustcomp.downlink.replica import Replica, change_to
from flwr_robustcomp.flower import addressed, envelope
from tests.apps import Model, gaussian_model, node

MODEL = {"weight": torch.linspace(-1, 1, 900).reshape(30, 30), "bias": torch.ones(3), "count": torch.tensor(5)}


class Server:
    """Writes what a server would send, one version after the other."""

    def __init__(self) -> None:
        self.replica = Replica.empty()

    @property
    def held(self) -> Held:
        return Held(version=self.replica.version, digest=self.replica.digest if self.replica.version else "")

    def next(self, model: Model) -> RecordDict:
        base, version = self.held, self.replica.version + 1
        rung = Eden(bits=8) if version == 1 else Drive().for_round(version)
        change = change_to(model, self.replica, rung, ())
        self.replica = self.replica.after(change)
        return content(Header.between("arrays", base, self.held), change_record(change, version))

    def snapshot(self) -> RecordDict:
        header = Header(form=Form.DENSE, key="arrays", version=self.held.version, digest=self.held.digest)
        return content(header, snapshot_record(self.replica))


def content(header: Header, arrays: ArrayRecord) -> RecordDict:
    config = ConfigRecord({"server-round": 1, "lr": 0.1})
    return RecordDict({"arrays": arrays, "config": config, HEADER: header.record()})


def message(told: RecordDict, kind: str = "train") -> Message:
    return addressed(told, envelope(Message(told, 7, kind), "1"))


def other(scale: float) -> Model:
    return {**MODEL, "weight": MODEL["weight"] * scale}


def _app() -> tuple[ClientApp, list[RecordDict]]:
    app = ClientApp(mods=[CompressionMod(Drive(), error_feedback=True)])
    seen: list[RecordDict] = []

    def answer(message: Message, context: Context) -> Message:
        seen.append(message.content.copy())
        told = RecordDict({"metrics": MetricRecord({"num-examples": 3})})
        if message.metadata.message_type.startswith("train"):
            told["arrays"] = message.content.array_records["arrays"]
        return Message(told, reply_to=message)

    for register in (app.train(), app.evaluate(), app.query(), app.train("twice")):
        register(answer)
    return app, seen


def _model(content: RecordDict) -> Model:
    return from_arrays(content.array_records["arrays"])


@pytest.mark.parametrize("kind", ["train", "evaluate", "query", "train.twice"])
def test_handlers_see_a_dense_model_and_nothing_else(kind: str) -> None:
    app, seen = _app()
    server, context = Server(), node()
    for scale in (1.0, 2.0, 2.5):
        reply = app(message(server.next(other(scale)), kind), context)
        assert Held.read(reply.content[HELD]) == server.held
        assert sorted(seen[-1]) == ["arrays", "config"]
        found = _model(seen[-1])
        assert [*found] == [*MODEL]
        assert all(torch.equal(found[name], tensor) for name, tensor in server.replica.model().items())
    assert not torch.equal(found["weight"], other(2.5)["weight"]), "it was not compressed"


def test_updates_are_taken_against_what_the_node_got() -> None:
    app, _ = _app()
    server, context = Server(), node()
    app(message(server.next(MODEL)), context)
    app(message(server.next(other(2.0))), context)
    (residual,) = context.state.array_records["robustcomp.residual"].values()
    assert not residual.numpy().any(), "x = v - w_local is zero for a node that changes nothing"


def test_a_model_of_a_few_bits_is_kept_by_nobody() -> None:
    app, seen = _app()
    change = change_to(MODEL, Replica.empty(), Eden(bits=4), ())
    context = node()
    reply = app(message(content(Header(form=Form.QUANTISED, key="arrays"), change_record(change))), context)
    assert Held.read(reply.content[HELD]) == Held()
    assert ARRAYS not in context.state
    gap = _model(seen[0])["weight"] - MODEL["weight"]
    assert 0 < float(gap.norm()) < 0.11 * float(MODEL["weight"].norm())


@pytest.mark.parametrize("state", ["lost", "other format", "other dtype", "arrays lost"])
def test_a_state_that_does_not_fit_asks_again_and_takes_a_dense_one(state: str, caplog: pytest.LogCaptureFixture) -> None:
    app, seen = _app()
    server, context = Server(), node()
    app(message(server.next(MODEL)), context)
    broken = context.state
    if state == "lost":
        broken.clear()
    elif state == "other format":
        broken[HELD] = ConfigRecord({**broken.config_records[HELD], "format": 2})
    elif state == "other dtype":
        broken[ARRAYS] = to_arrays({name: tensor.double() for name, tensor in MODEL.items()})
    else:
        del broken[ARRAYS]
    told = server.next(other(3.0))
    reply = app(message(told), context)
    assert [*reply.content] == [RESEND]
    assert Resend.read(reply.content[RESEND]).why
    assert len(seen) == 1, "the app was asked all the same"
    assert "asked for again" in caplog.text
    app(message(server.snapshot()), context)
    assert torch.equal(_model(seen[-1])["weight"], server.replica.arrays["weight"])
    app(message(server.next(other(4.0))), context)
    assert torch.equal(_model(seen[-1])["weight"], server.replica.arrays["weight"])


def test_missed_changes_come_together() -> None:
    app, seen = _app()
    server, context = Server(), node()
    app(message(server.next(MODEL)), context)
    missed = [server.next(other(scale)).array_records["arrays"] for scale in (1.5, 2.0)]
    base = Held(version=1, digest=str(context.state.config_records[HELD]["digest"]))
    last = server.next(other(2.2)).array_records["arrays"]
    both = ArrayRecord({name: array for record in (*missed, last) for name, array in record.items()})
    app(message(content(Header.between("arrays", base, server.held), both)), context)
    assert torch.equal(_model(seen[-1])["weight"], server.replica.arrays["weight"])


def test_a_wrong_bit_is_noticed() -> None:
    app, seen = _app()
    server, context = Server(), node()
    app(message(server.next(MODEL)), context)
    told = server.next(other(2.0))
    record = told.array_records["arrays"]
    (name,) = record
    data = bytearray(record[name].data)
    data[-1] ^= 1
    record[name].data = bytes(data)
    reply = app(message(told), context)
    assert "this node got" in Resend.read(reply.content[RESEND]).why
    assert len(seen) == 1


def test_reading_changes_neither_message_nor_state() -> None:
    server, context = Server(), node()
    told = server.next(MODEL)
    before = (dict(told), dict(context.state))
    assert receive(told, context.state) is not None
    assert (dict(told), dict(context.state)) == before


def test_nodes_of_a_process_share_a_version() -> None:
    app, _ = _app()
    server, contexts = Server(), [node(partition) for partition in range(3)]
    for scale in (1.0, 2.0):
        told = server.next(other(scale))
        for context in contexts:
            app(message(RecordDict(dict(told))), context)
    first, *others = [context.state.array_records[ARRAYS] for context in contexts]
    assert all(one[name].data is array.data for one in others for name, array in first.items())


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format", 2, "format"),
        ("form", "sparse", "form"),
        ("key", "weights", "'weights' must be an ArrayRecord"),
        ("base", 5, "builds on version 5"),
        ("version", 0, "version must be 1 to"),
        ("version", 2**40, "version"),
        ("digest", "0" * 16, "this node got version 2"),
        ("digest", "0" * 99, "digest"),
        ("more", 1, "more"),
    ],
)
def test_a_lying_header_is_one_line(field: str, value: int | str, said: str) -> None:
    server, context = Server(), node()
    first = receive(server.next(MODEL), context.state)
    assert first is not None
    context.state.update(first.kept)
    told = server.next(other(2.0))
    told[HEADER] = ConfigRecord({**told.config_records[HEADER], field: value})
    with pytest.raises(Unreadable, match=said) as error:
        receive(told, context.state)
    assert error.value.held == first.held
    assert "\n" not in str(error.value)


def test_an_array_of_too_many_sides_is_one_line() -> None:
    told = Server().next({"w": MODEL["weight"]})
    (array,) = told.array_records["arrays"].values()
    array.shape = (1,) * 70 + (30, 30)
    with pytest.raises(Unreadable, match="must have a shape"):
        receive(told, RecordDict())


def test_whoever_holds_a_version_can_build_the_first_one_anew() -> None:
    app, seen = _app()
    server, context = Server(), node()
    told = server.next(MODEL)
    for _ in range(2):
        assert HELD in app(message(RecordDict(dict(told))), context).content
    assert torch.equal(_model(seen[1])["weight"], server.replica.arrays["weight"])


def test_an_answer_that_is_an_error_leaves_the_replica_as_it_was() -> None:
    server, context = Server(), node()
    with_model(message(server.next(MODEL)), context, lambda dense: Message(RecordDict(), reply_to=dense))
    told = server.next(other(2.0))
    with_model(message(RecordDict(dict(told))), context, lambda dense: Message(Error(6, "a mod refuses"), reply_to=dense))
    received = receive(told, context.state)
    assert received is not None
    assert received.held == server.held


def test_an_app_that_clears_its_state_keeps_the_replica() -> None:
    server, context = Server(), node()

    def forgetful(dense: Message) -> Message:
        context.state.clear()
        return Message(RecordDict(), reply_to=dense)

    for scale in (1.0, 2.0):
        assert HELD in with_model(message(server.next(other(scale))), context, forgetful).content


def test_dense_messages_pass() -> None:
    app, seen = _app()
    told = RecordDict({"arrays": to_arrays(gaussian_model()), "config": ConfigRecord({"server-round": 1})})
    reply = app(message(told), node())
    assert HELD not in reply.content
    assert [*seen[0]] == ["arrays", "config"]
