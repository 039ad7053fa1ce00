"""The compression mod around replies with several ArrayRecords, or with a part of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp import CompressionMod, from_arrays, to_arrays, wire
from flwr_robustcomp.clients import ClientMomentum, SignFlip
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.clients.exchange import TrainingMod
from flwr_robustcomp.clients.node import model_keys
from flwr_robustcomp.compressors import Compressor, Drive, Identity, L1Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.simulations import InProcessGrid
from flwr_robustcomp.strategies import NormThreshold
from tests.apps import Model, app, gaussian_model, minus, node, replied, request
from tests.strategies.rounds import SAMPLING

MODEL, STEP, CONTROL = gaussian_model(0), gaussian_model(1), gaussian_model(2)


def _exchange(mod: TrainingMod, sent: dict[str, Model], replies: dict[str, Model]) -> RecordDict:
    """Return the content of the reply to a message with these ArrayRecords."""

    def train(message: Message, context: Context) -> Message:
        return Message(
            RecordDict({**{key: to_arrays(model) for key, model in replies.items()}, "extra": ConfigRecord({"k": 1})}),
            reply_to=message,
        )

    message = request(MODEL)
    del message.content["arrays"]
    for key, model in sent.items():
        message.content[key] = to_arrays(model)
    return mod(message, node(), train).content


def _steps_of(names: Sequence[str]) -> Callable[[Model], Model]:
    """Return training whose reply has these arrays alone."""
    return lambda w: {name: STEP[name] for name in names}


def _is_packed(content: RecordDict, key: str) -> bool:
    record = content[key]
    assert isinstance(record, ArrayRecord)
    return list(record) == [wire.MODEL_ARRAY]


@pytest.mark.parametrize(
    ("sent", "replies", "options", "packed"),
    [
        (["arrays"], ["weights"], {}, "weights"),
        (["arrays"], ["control", "arrays"], {}, "arrays"),
        (["arrays", "control"], ["control", "arrays"], {}, "arrays"),
        (["model", "control"], ["model", "delta"], {}, "model"),
        (["a", "b"], ["a", "b"], {"key": "b"}, "b"),
    ],
)
def test_the_model_is_found_by_name_and_all_else_travels(
    sent: list[str], replies: list[str], options: dict[str, Any], packed: str
) -> None:
    content = _exchange(CompressionMod(L1Sign(), **options), {k: MODEL for k in sent}, {k: minus(MODEL, STEP) for k in replies})
    assert [key for key in replies if _is_packed(content, key)] == [packed]
    for key in set(replies) - {packed}:
        assert content[key] == to_arrays(minus(MODEL, STEP))
    assert content["extra"] == ConfigRecord({"k": 1})


@pytest.mark.parametrize(
    ("sent", "replies", "options", "words"),
    [
        (["a", "b"], ["a", "b"], {}, ['CompressionMod(key="...")', "['a', 'b']"]),
        (["a"], ["b", "c"], {}, ['CompressionMod(key="...")', "['a']", "['b', 'c']"]),
        (["a"], ["a", "b"], {"key": "b"}, ["under 'b'", "'a'"]),
        (["a", "b"], ["a"], {"key": "b"}, ["got 'b'", "['a', 'b']"]),
        ([], ["a"], {}, ["the server's message must hold the model"]),
        (["a"], [], {}, ['CompressionMod(key="...")', "[] in the reply"]),
    ],
)
def test_what_nobody_can_tell_apart_is_refused_with_the_keys(
    sent: list[str], replies: list[str], options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _exchange(CompressionMod(L1Sign(), **options), {k: MODEL for k in sent}, {k: MODEL for k in replies})
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize("mod", [SignFlip(key="model"), ClientMomentum(0.0, key="model")], ids=["attack", "momentum"])
def test_inner_mods_take_the_record_that_is_named(mod: TrainingMod) -> None:
    moved = minus(MODEL, STEP)
    content = _exchange(mod, {"arrays": MODEL, "model": MODEL}, {"arrays": moved, "model": moved})
    assert content["arrays"] == to_arrays(moved)
    ours, sign = from_arrays(content.array_records["model"]), -1 if isinstance(mod, SignFlip) else 1
    assert all(torch.allclose(ours[name], MODEL[name] - sign * STEP[name], atol=1e-6) for name in MODEL)


KEYS = st.lists(st.sampled_from(["arrays", "a", "b", "c"]), min_size=1, unique=True)


@given(KEYS, KEYS, st.sampled_from([None, "arrays", "a"]))
def test_the_keys_are_those_of_records_that_are_there(received: list[str], replied_: list[str], key: str | None) -> None:
    try:
        ours, theirs = model_keys(received, replied_, key)
    except ConfigurationError:
        assert key is not None or "arrays" not in received or "arrays" not in replied_
        return
    assert ours in received and theirs in replied_
    assert ours == theirs or (key is None and len(received) == len(replied_) == 1)


def _partial(names: list[str], mod: CompressionMod) -> ClientApp:
    return app(lambda w: {name: minus(w, STEP)[name] for name in names}, [mod])


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [L1Sign(), TopK(k=2), Identity(), Drive()], ids=repr)
def test_arrays_that_are_left_out_do_not_move(compressor: Compressor, granularity: Any) -> None:
    mod = CompressionMod(compressor, granularity=granularity, partial=True, error_feedback=True)
    strategy = NormThreshold(compressor=compressor, granularity=granularity, **SAMPLING)
    result = strategy.start(InProcessGrid(_partial(["weight"], mod), 3), to_arrays(MODEL), num_rounds=3)
    assert not any(report.rejected for report in strategy.reports)
    found = from_arrays(result.arrays)
    assert torch.equal(found["bias"], MODEL["bias"]) and not torch.equal(found["weight"], MODEL["weight"])


@pytest.mark.parametrize("names", [["wieght"], ["weight", "head"], []])
def test_a_typo_is_an_error_all_the_same(names: list[str]) -> None:
    client = app(lambda w: {name: w["weight"] for name in names}, [CompressionMod(L1Sign(), partial=True)])
    with pytest.raises(ConfigurationError, match=r"some of the model's arrays \['bias', 'weight'\]"):
        client(request(MODEL), node())


def test_a_partial_reply_must_be_allowed() -> None:
    with pytest.raises(ConfigurationError, match="the reply must hold the model's arrays"):
        _partial(["weight"], CompressionMod(L1Sign()))(request(MODEL), node())


def test_statistics_that_are_left_out_stay_as_they_were_sent() -> None:
    model = {"w": torch.ones(4), "running_mean": torch.full((2,), 3.0), "steps": torch.tensor(5)}
    client = app(lambda w: {"w": w["w"] - 1}, [CompressionMod(Identity(), partial=True)])
    sent = replied(client(request(model), node()))
    assert wire.read_dense(sent["running_mean"]).tolist() == [3.0, 3.0] and wire.read_dense(sent["steps"]).item() == 5


def _sent(reply: Message) -> torch.Tensor:
    packed = [wire.unpack_trusted(array, ((4, 5), (3,))) for array in replied(reply).values()]
    return torch.cat([compressor.decompress(payload).flatten() for compressor, payload in packed])


@pytest.mark.parametrize("compressor", [TopK(k=3), L1Sign()], ids=repr)
def test_the_residual_of_what_is_left_out_waits(compressor: Compressor) -> None:
    """In rounds 2 and 3 the bias is kept at the client; what it lacks from round 1 is sent in round 4, and nothing is lost."""
    names = {1: ["weight", "bias"], 2: ["weight"], 3: ["weight"], 4: ["weight", "bias"]}
    layout, context = Layout.of(MODEL), node()
    (bias,) = [slice(slot.start, slot.stop) for slot in layout.compressed if slot.name == "bias"]
    total, wanted = torch.zeros(layout.dim), torch.zeros(layout.dim)
    held = []
    for round_, part in names.items():
        mod = CompressionMod(compressor, partial=True, error_feedback=True, reply="update")
        client = app(_steps_of(part), [mod])
        sent = _sent(client(request(MODEL, round_=round_), context))
        x = layout.flatten({name: STEP[name] if name in part else torch.zeros_like(STEP[name]) for name in STEP})
        residual = RESIDUAL.load(context.state, layout.dim, torch.float32)
        assert residual is not None
        if "bias" not in part:
            assert not sent[bias].any()
            held.append(residual[bias].clone())
        total += sent
        wanted += x
        assert torch.allclose(total + residual, wanted, atol=1e-5)
    assert held[0].any() and torch.equal(held[0], held[1])


def test_a_partial_mod_tells_the_delta_of_what_it_compresses() -> None:
    context = node()
    for part in (["weight", "bias"], ["weight"]):
        mod = CompressionMod(TopK(k=3), partial=True, error_feedback=True, reply="update", report_delta=True)
        client = app(_steps_of(part), [mod])
        metrics = client(request(MODEL), context).content["metrics"]
        assert isinstance(metrics, MetricRecord) and 0 < float(str(metrics["robustcomp.delta"])) < 1
