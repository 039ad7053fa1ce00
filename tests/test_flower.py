"""The internals of Flower that we touch are still there. If one of these fails, Flower changed: see `flower.py`."""

from __future__ import annotations

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from flwr_robustcomp import flower


def test_identity_lets_messages_be_made() -> None:
    TaskIdentity._run_id = None
    with pytest.raises(RuntimeError, match="not set"):
        Message(RecordDict(), dst_node_id=7, message_type="train")
    flower.assume_identity(5)
    message = Message(RecordDict(), dst_node_id=7, message_type="train")
    assert (message.metadata.run_id, message.metadata.src_node_id) == (5, flower.SERVER_NODE_ID)


def test_an_envelope_gives_an_id() -> None:
    message = Message(RecordDict(), dst_node_id=7, message_type="train")
    metadata = flower.envelope(message, "m1")
    assert metadata is message.metadata and metadata.message_id == "m1"
    delivered = flower.addressed(message.content, metadata)
    reply = Message(Error(0, "x"), reply_to=delivered)
    assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == ("m1", 7)


def test_a_private_copy_shares_arrays_and_nothing_else() -> None:
    import numpy as np

    content = RecordDict({"arrays": ArrayRecord([np.ones(2)]), "config": ConfigRecord({"lr": 1.0})})
    own = flower.private_copy(content)
    own["config"]["lr"] = 2.0
    own["arrays"]["new"] = own["arrays"]["0"]
    del own["arrays"]["0"]
    own["more"] = ConfigRecord()
    assert dict(content["config"]) == {"lr": 1.0} and list(content["arrays"]) == ["0"] and "more" not in content
    assert own["arrays"]["new"].data is content["arrays"]["0"].data


def test_run_and_context() -> None:
    assert flower.empty_run(3).run_id == 3
    assert flower.server_context(3, {"seed": 1}).run_config == {"seed": 1}


def test_a_quick_reply_is_the_reply_that_the_constructors_make() -> None:
    from flwr.app import Array, MetricRecord

    content = RecordDict({"config": ConfigRecord({"server-round": 1})})
    asked = Message(content, dst_node_id=7, message_type="train", group_id="3", ttl=60.0)
    request = flower.addressed(content, flower.envelope(asked, "m1"))
    fields = ("float32", (9,), "robustcomp/sign/1", b"\x01\x02")
    metrics, norms = MetricRecord({"num-examples": 3}), ConfigRecord({"norm-2": 1.5})
    all_metrics = MetricRecord({"num-examples": 3, "robustcomp.delta": 0.5})
    slow = Message(
        RecordDict({"arrays": ArrayRecord({"w": Array(*fields)}), "metrics": all_metrics, "norms": norms}), reply_to=request
    )
    created_at = slow.metadata.created_at
    more = {"robustcomp.delta": 0.5}
    quick = flower.quick_reply(request, {"w": fields}, metrics, norms, created_at, norm_record="norms", more=more)
    assert quick.content == slow.content
    assert quick.metadata.__dict__.keys() == slow.metadata.__dict__.keys()
    timing = {"_ttl"}
    assert {k: v for k, v in quick.metadata.__dict__.items() if k not in timing} == {
        k: v for k, v in slow.metadata.__dict__.items() if k not in timing
    }
    assert quick.metadata.ttl == pytest.approx(slow.metadata.ttl, abs=1e-3)
    assert quick.content.object_id == slow.content.object_id  # hashes everything that would be sent
    quick.content["metrics"]["num-examples"] = 4
    assert dict(metrics) == {"num-examples": 3}
