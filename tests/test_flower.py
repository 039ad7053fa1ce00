"""The internals of Flower that we touch are still there. If one of these fails, Flower changed: see `flower.py`.

The tests hold for every Flower of docs/how-to/flower-versions.md. Where versions differ, a test lists the forms that are known,
so that a new form fails here and not in a run.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from flwr_robustcomp import flower
from flwr_robustcomp.errors import ConfigurationError

MESSAGE_IDS = ["self", "message_ids"]
PULL_MESSAGES = [MESSAGE_IDS, ["self", "reply_to_message_ids", "message_ids"]]
"""The parameters of `Grid.pull_messages` until 1.42, and from 1.43."""

START = ["self", "grid", "initial_arrays", "num_rounds", "timeout", "train_config", "evaluate_config", "evaluate_fn"]
STARTS = [START, [*START, "should_stop"]]
"""Those of `Strategy.start`, likewise."""

IS_NEW = len(inspect.signature(Grid.pull_messages).parameters) == 3
"""Whether this Flower is of 1.43 or later."""


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_version_is_known() -> None:
    assert flower.flower_version()[0].isdigit()


def test_the_log_is_flowers_own() -> None:
    assert flower.LOG is logging.getLogger("flwr")
    assert flower.LOG.handlers, "Flower no longer logs to 'flwr'"


def test_constants_are_flowers() -> None:
    from flwr.common import constant

    assert constant.SUPERLINK_NODE_ID == flower.SERVER_NODE_ID
    assert constant.ErrorCode.UNKNOWN == flower.UNKNOWN_ERROR


# -- messages -------------------------------------------------------------------------------------------------------------


def test_identity_lets_messages_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = vars(flower)["TaskIdentity"]
    if identity.__module__ != flower.__name__:  # from 1.38 on
        monkeypatch.setattr(identity, "_run_id", None)
        with pytest.raises(RuntimeError, match="not set"):
            Message(RecordDict(), dst_node_id=7, message_type="train")
        monkeypatch.undo()
    flower.assume_identity(5)
    message = flower.with_sender(Message(RecordDict(), dst_node_id=7, message_type="train"))
    assert (message.metadata.run_id, message.metadata.src_node_id) == (5, flower.SERVER_NODE_ID)


def test_a_sender_is_written_where_none_is() -> None:
    flower.assume_identity(5)
    message = Message(RecordDict(), dst_node_id=7, message_type="train")
    message.metadata.__dict__.update(_run_id=0, _src_node_id=0)  # as Flower makes it before 1.38
    flower.envelope(message, "m1")
    assert (message.metadata.run_id, message.metadata.src_node_id) == (5, flower.SERVER_NODE_ID)
    flower.assume_identity(6)
    flower.envelope(message, "m2")
    assert message.metadata.run_id == 5


def test_an_envelope_gives_an_id() -> None:
    message = Message(RecordDict(), dst_node_id=7, message_type="train")
    metadata = flower.envelope(message, "m1")
    assert metadata is message.metadata and metadata.message_id == "m1"
    delivered = flower.addressed(message.content, metadata)
    reply = Message(Error(0, "x"), reply_to=delivered)
    assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == ("m1", 7)


def test_messages_keep_what_we_reach_into() -> None:
    request = Message(RecordDict(), dst_node_id=7, message_type="train")
    assert {"_metadata", "_content", "_error"} <= request.__dict__.keys(), "Message has other fields"
    wanted = {
        *("_run_id", "_message_id", "_src_node_id", "_dst_node_id", "_src_task_id", "_dst_task_id"),
        *("_reply_to_message_id", "_group_id", "_created_at", "_delivered_at", "_ttl", "_message_type"),
    }
    assert wanted == request.metadata.__dict__.keys(), "Metadata has other fields: see quick_reply"


def test_records_keep_their_items_in_data() -> None:
    for record in (ArrayRecord(), ConfigRecord({"lr": 1.0}), RecordDict({"config": ConfigRecord()})):
        assert dict(record.__dict__["_data"]) == dict(record.items()), f"{type(record).__name__} keeps its items elsewhere"


def test_a_private_copy_shares_arrays_and_nothing_else() -> None:
    import numpy as np

    content = RecordDict({"arrays": ArrayRecord([np.ones(2)]), "config": ConfigRecord({"lr": 1.0})})
    own = flower.private_copy(content)
    own.config_records["config"]["lr"] = 2.0
    own.array_records["arrays"]["new"] = own.array_records["arrays"]["0"]
    del own["arrays"]["0"]
    own["more"] = ConfigRecord()
    assert dict(content["config"]) == {"lr": 1.0} and list(content["arrays"]) == ["0"] and "more" not in content
    assert own.array_records["arrays"]["new"].data is content.array_records["arrays"]["0"].data


# -- runs, grids and strategies -------------------------------------------------------------------------------------------


def test_run_and_context() -> None:
    assert flower.empty_run(3).run_id == 3
    context = flower.server_context(3, {"seed": 1})
    assert (context.run_id, context.node_id, context.run_config) == (3, flower.SERVER_NODE_ID, {"seed": 1})


def test_mods_are_called_as_before() -> None:
    assert ClientAppCallable == Callable[[Message, Context], Message]
    assert Mod == Callable[[Message, Context, ClientAppCallable], Message]


def test_a_grid_has_the_methods_that_ours_write() -> None:
    known = {"create_message", "get_node_ids", "pull_messages", "push_messages", "run", "send_and_receive", "set_run"}
    assert Grid.__abstractmethods__ == known, "Grid has other abstract methods"
    assert _parameters(Grid.pull_messages) in PULL_MESSAGES, "Grid.pull_messages has another form: see wanted_ids"
    assert _parameters(Grid.send_and_receive) == ["self", "messages", "timeout"]
    assert _parameters(Grid.push_messages) == ["self", "messages"]
    assert _parameters(Grid.create_message) == ["self", "content", "message_type", "dst_node_id", "group_id", "ttl"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((["a", "b"], None), ["a", "b"]),
        ((None, ["a"]), ["a"]),
        ((iter("ab"), None), ["a", "b"]),
        (([], None), []),
        ((None, None), None),
    ],
)
def test_ids_are_taken_under_either_name(given: tuple[Any, Any], wanted: list[str] | None) -> None:
    assert flower.wanted_ids(*given) == wanted


def test_ids_under_both_names_are_refused() -> None:
    with pytest.raises(TypeError, match="or message_ids, got both"):
        flower.wanted_ids(["a"], [])


def test_a_strategy_has_the_methods_that_ours_write() -> None:
    known = {"aggregate_evaluate", "aggregate_train", "configure_evaluate", "configure_train", "summary"}
    assert Strategy.__abstractmethods__ == known, "Strategy has other abstract methods"
    assert _parameters(Strategy.start) in STARTS, "Strategy.start has another form: see start_options"


def test_a_result_has_the_histories_that_checkpoints_keep() -> None:
    from flwr_robustcomp.checkpoints.history import HISTORIES

    assert {"arrays", *HISTORIES} == vars(Result()).keys()


def test_should_stop_is_passed_on_or_refused() -> None:
    def never(server_round: int, result: Result) -> bool:
        return False

    assert flower.start_options(None) == {}
    if IS_NEW:
        assert flower.start_options(never) == {"should_stop": never}
    else:
        with pytest.raises(ConfigurationError, match=r"should_stop must be None with Flower 1\..* \(1\.43 brings it\), got"):
            flower.start_options(never)


# -- replies in bulk ------------------------------------------------------------------------------------------------------


def test_a_quick_reply_is_the_reply_that_the_constructors_make() -> None:
    from flwr.app import Array, MetricRecord

    content = RecordDict({"config": ConfigRecord({"server-round": 1})})
    asked = Message(content, dst_node_id=7, message_type="train", group_id="3", ttl=60.0)
    request = flower.addressed(content, flower.envelope(asked, "m1"))
    fields = ("float32", (9,), "robustcomp/sign/1", b"\x01\x02")
    metrics = MetricRecord({"num-examples": 3})
    records = {"norms": ConfigRecord({"norm-2": 1.5}), "held": ConfigRecord({"version": 2})}
    all_metrics = MetricRecord({"num-examples": 3, "robustcomp.delta": 0.5})
    slow = Message(
        RecordDict({"arrays": ArrayRecord({"w": Array(*fields)}), "metrics": all_metrics, **records}), reply_to=request
    )
    created_at = slow.metadata.created_at
    more = {"robustcomp.delta": 0.5}
    quick = flower.quick_reply(request, {"w": fields}, metrics, records, created_at, more=more)
    assert quick.content == slow.content
    assert quick.metadata.__dict__.keys() == slow.metadata.__dict__.keys()
    timing = {"_ttl"}
    assert {k: v for k, v in quick.metadata.__dict__.items() if k not in timing} == {
        k: v for k, v in slow.metadata.__dict__.items() if k not in timing
    }
    assert quick.metadata.ttl == pytest.approx(slow.metadata.ttl, abs=1e-3)
    assert quick.content.object_id == slow.content.object_id  # hashes everything that would be sent
    quick.content.metric_records["metrics"]["num-examples"] = 4
    assert dict(metrics) == {"num-examples": 3}
