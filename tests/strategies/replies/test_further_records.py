"""Records beside the model in a reply: they travel, they are bounded, and nobody has to look at them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from flwr_robustcomp import CompressionMod, from_arrays, to_arrays
from flwr_robustcomp.compressors import Identity, L1Sign
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import NormThreshold, Outcome, Reason, Round
from flwr_robustcomp.strategies.replies.further_records import further_arrays
from flwr_robustcomp.strategies.replies.screening import Update
from tests.apps import minus
from tests.strategies.rounds import MODEL, SAMPLING, answer, ask, moved, updates

CONTROL = {name: tensor / 2 for name, tensor in MODEL.items()}
STEP = {name: tensor / 100 for name, tensor in MODEL.items()}


def _replies(strategy: Any, **records: Any) -> list[Message]:
    replies = [answer(r, x, strategy.packing.compressor) for r, x in zip(ask(strategy, 3), updates(3), strict=True)]
    replies[0].content = RecordDict({**records, **replies[0].content})  # the model is not the first record
    return replies


def test_the_model_is_the_record_under_the_strategys_key() -> None:
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    plain = moved(strategy, _replies(strategy))
    assert torch.equal(moved(strategy, _replies(strategy, control=to_arrays(CONTROL), more=ConfigRecord({"k": b"v"}))), plain)
    assert not strategy.reports[-1].rejected
    other = NormThreshold(compressor=L1Sign(), arrayrecord_key="weights", **SAMPLING)
    replies = _replies(other)
    for reply in replies:
        reply.content["weights"] = reply.content.pop("arrays")
        reply.content["arrays"] = to_arrays(CONTROL)
    assert torch.equal(moved(other, replies), plain)


def test_without_that_key_nobody_knows_which_is_the_model() -> None:
    strategy = NormThreshold(compressor=L1Sign(), arrayrecord_key="weights", **SAMPLING)
    strategy.aggregate_train(1, _replies(strategy, control=to_arrays(CONTROL)))
    (rejection,) = strategy.reports[-1].rejected
    assert rejection.reason is Reason.RECORDS and "the model under 'weights'" in rejection.detail


@pytest.mark.parametrize(("models", "accepted"), [(2.0, False), (5.0, True)])
def test_further_records_are_bounded_with_the_reply(models: float, accepted: bool) -> None:
    model = {"w": torch.zeros(2**20)}
    strategy = NormThreshold(compressor=L1Sign(), **SAMPLING)
    strategy.receiver.models_per_reply = models
    requests = ask(strategy, 2, model=model)
    replies = [answer(r, torch.ones(2**20), L1Sign(), model=model) for r in requests]
    replies[0].content["more"] = to_arrays({"a": torch.zeros(2**20), "b": torch.zeros(2**20), "c": torch.zeros(2**20)})
    strategy.aggregate_train(1, replies)
    assert [one.reason for one in strategy.reports[-1].rejected] == ([] if accepted else [Reason.SIZE])


def _update(record: Any) -> Update:
    class Reply:
        content = RecordDict({"control": record})

    reply: Any = Reply()
    return Update(reply, 7, (), {}, None, {})


@pytest.mark.parametrize(
    "record",
    [
        MetricRecord({"w": 1.0}),
        ArrayRecord(),
        to_arrays({"other": torch.zeros(2)}),
        to_arrays({"w": torch.zeros(3)}),
        to_arrays({"w": torch.zeros(2, dtype=torch.float64)}),
        to_arrays({"w": torch.tensor([0.0, math.nan])}),
    ],
)
def test_what_does_not_fit_is_not_read(record: Any) -> None:
    like = {"w": torch.zeros(2)}
    assert further_arrays(_update(record), "control", like) is None
    assert further_arrays(_update(to_arrays(like)), "another", like) is None
    found = further_arrays(_update(to_arrays({"w": torch.ones(2)})), "control", like)
    assert found is not None and torch.equal(found["w"], torch.ones(2))


class Controlled(NormThreshold):
    """A strategy that averages control variates of those that it keeps."""

    control: dict[str, Tensor] | None = None

    def aggregate(self, round_: Round, state: Mapping[str, Tensor]) -> Outcome:
        outcome = super().aggregate(round_, state)
        kept = [update for update, weight in zip(round_.updates, outcome.weights, strict=True) if weight > 0]
        sent = [control for update in kept if (control := further_arrays(update, "control", round_.model)) is not None]
        self.control = {name: torch.stack([control[name] for control in sent]).mean(dim=0) for name in round_.model}
        return outcome


def test_control_variates_travel_in_a_run() -> None:
    client = ClientApp(mods=[CompressionMod(Identity())])

    @client.train()
    def _train(message: Message, context: Context) -> Message:
        record = message.content["arrays"]
        assert isinstance(record, ArrayRecord)
        scale = float(str(context.node_config["partition-id"]))
        content = RecordDict(
            {
                "arrays": to_arrays(minus(from_arrays(record), STEP)),
                "control": to_arrays({name: torch.full_like(tensor, scale) for name, tensor in MODEL.items()}),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )
        return Message(content, reply_to=message)

    strategy = Controlled(compressor=Identity(), **SAMPLING)
    result = strategy.start(InProcessGrid(client, 4), to_arrays(MODEL), num_rounds=1)
    control = strategy.control
    assert control is not None and all(
        torch.equal(control[name], torch.full_like(tensor, 1.5)) for name, tensor in MODEL.items()
    )
    found = from_arrays(result.arrays)
    assert all(torch.allclose(found[name], MODEL[name] - STEP[name]) for name in MODEL)
