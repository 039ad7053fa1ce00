"""The mods on messages of Flower's old API, and old clients under strategies of the new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.client import Client as OldClient
from flwr.client import NumPyClient
from flwr.clientapp.typing import Mod
from flwr.common import Code, FitRes, Parameters, Status

from flwr_robustcomp import from_arrays, to_arrays, wire
from flwr_robustcomp.clients import ClientMomentum, CompressionMod, Scaling, SignFlip
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.clients.old_api import call_next_or_explain, old_client
from flwr_robustcomp.compressors import QSGD, Compressor, Drive, Identity, L1Sign, RandomK, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.flower import addressed, envelope
from flwr_robustcomp.old_api import FIT_CONFIG, FIT_METRICS, FIT_MODEL, FIT_REPLY
from flwr_robustcomp.spans import DELTA_METRIC
from flwr_robustcomp.strategies import NormThreshold
from tests.apps import Model, app, node, replied, request
from tests.old_apps import MODEL, NDArrays, client_app, in_old_api

STEP = [np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4), np.full(4, 0.25, dtype=np.float32)]
NAMED = {str(i): torch.from_numpy(array) for i, array in enumerate(MODEL)}


class Trains(NumPyClient):
    """Replies with what a function makes of the model."""

    def __init__(self, train: Callable[[NDArrays], NDArrays], metrics: dict[str, Any] | None = None) -> None:
        self.train = train
        self.metrics = {} if metrics is None else metrics

    def fit(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[NDArrays, int, dict[str, Any]]:
        return self.train(parameters), 3, self.metrics


def steps(model: NDArrays) -> NDArrays:
    return [w - step for w, step in zip(model, STEP, strict=True)]


def numpy_arrays(model: NDArrays) -> ArrayRecord:
    """Return a model as it arrives: npy bytes without shape or dtype."""
    return ArrayRecord({str(i): Array("", (), "numpy.ndarray", Array(array).data) for i, array in enumerate(model)})


def old_request(
    model: NDArrays = MODEL, *, round_: int = 1, config: dict[str, Any] | None = None, group: str | None = None
) -> Message:
    content = RecordDict({FIT_MODEL: numpy_arrays(model), FIT_CONFIG: ConfigRecord(config or {})})
    message = Message(content, 7, "train", group_id=str(round_) if group is None else group)
    return addressed(content, envelope(message, f"old-{round_}"))


def fit(mods: list[Any], message: Message, context: Context | None = None, client: Any = None) -> Message:
    return client_app([in_old_api(mod) for mod in mods], lambda _: client or Trains(steps, {"loss": 0.5, "who": "me"}))(
        message, node() if context is None else context
    )


def arrays_of(reply: Message, key: str = FIT_REPLY) -> ArrayRecord:
    record = reply.content[key]
    assert isinstance(record, ArrayRecord)
    return record


def metrics_of(reply: Message) -> dict[str, Any]:
    record = reply.content[FIT_METRICS]
    assert isinstance(record, ConfigRecord)
    return dict(record)


def data(record: ArrayRecord) -> list[tuple[str, bytes]]:
    return [(array.stype, array.data) for array in record.values()]


COMPRESSORS = [Identity(), L1Sign(), Drive(), QSGD(8), RandomK(k=3), TopK(k=2)]


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", COMPRESSORS, ids=repr)
def test_both_apis_send_the_same_bytes(compressor: Compressor, granularity: Any) -> None:
    mod = CompressionMod(compressor, error_feedback=True, granularity=granularity)
    old_state, new_state = node(2), node(2)
    for round_ in (1, 2, 3):
        old = fit([mod], old_request(round_=round_), old_state)
        new = app(lambda w: {n: x - torch.from_numpy(STEP[int(n)]) for n, x in w.items()}, [mod])(
            request(NAMED, round_=round_), new_state
        )
        assert data(arrays_of(old)) == data(replied(new))
    assert old_state.state[RESIDUAL.record] == new_state.state[RESIDUAL.record]


def test_the_rest_of_the_reply_stays() -> None:
    plain = client_app(client=lambda _: Trains(steps, {"loss": 0.5, "who": "me", "ok": True}))(old_request(), node())
    packed = fit([CompressionMod(L1Sign())], old_request(), client=Trains(steps, {"loss": 0.5, "who": "me", "ok": True}))
    assert list(packed.content) == list(plain.content)
    assert {k: r for k, r in packed.content.items() if k != FIT_REPLY} == {
        k: r for k, r in plain.content.items() if k != FIT_REPLY
    }
    assert [array.stype for array in arrays_of(packed).values()] == ["robustcomp/l1-sign/1"]


def test_the_message_is_left_as_it_came() -> None:
    message, before = old_request(config={"lr": 0.5}), old_request(config={"lr": 0.5})
    seen: list[dict[str, Any]] = []

    class Keeps(Trains):
        def fit(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[NDArrays, int, dict[str, Any]]:
            seen.append(config)
            return super().fit(parameters, config)

    fit([CompressionMod(L1Sign())], message, client=Keeps(steps))
    assert message.content == before.content and seen == [{"lr": 0.5}]


def test_norm_and_delta_travel_among_the_metrics() -> None:
    mod = CompressionMod(L1Sign(), report_norm=2, report_delta=True)
    told = metrics_of(fit([mod], old_request()))
    norm = float(np.linalg.norm(np.concatenate([step.ravel() for step in STEP])))
    assert told["robustcomp.reported.norm-2"] == pytest.approx(norm, rel=1e-6)
    assert 0 < told[DELTA_METRIC] < 1
    assert {name: told[name] for name in ("loss", "who")} == {"loss": 0.5, "who": "me"}


def test_batch_statistics_are_recognised_and_travel_as_they_are() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    model = [tensor.numpy().copy() for tensor in network.state_dict().values()]

    def train(weights: NDArrays) -> NDArrays:
        return [w + 1 for w in weights]

    sent = arrays_of(fit([CompressionMod(L1Sign())], old_request(model), client=Trains(train)))
    assert list(sent) == [wire.MODEL_ARRAY, "4.running_mean", "5.running_var", "6"]
    for name in ("4.running_mean", "5.running_var", "6"):
        assert np.array_equal(wire.read_dense(sent[name]).numpy(), model[int(name[0])] + 1)


def test_a_reply_in_a_wider_dtype_is_taken_in_the_models() -> None:
    client = Trains(lambda model: [w.astype(np.float64) for w in steps(model)])
    wide = fit([CompressionMod(Identity())], old_request(), client=client)
    assert data(arrays_of(wide)) == data(arrays_of(fit([CompressionMod(Identity())], old_request())))


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (lambda model: model[:1], "fit must return the 2 arrays that it was given, got 1"),
        (lambda model: [w.astype(np.complex64) for w in model], "array 0 of the reply must be of the model's dtype"),
        (lambda model: [w.reshape(-1) for w in model], "the reply does not fit the model"),
        (lambda model: [np.array(["a"]), model[1]], "array 0 of the reply cannot be read"),
    ],
)
def test_a_reply_that_does_not_fit_the_model(train: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        fit([CompressionMod(Identity())], old_request(), client=Trains(train))


def test_a_model_that_is_no_array_of_numbers() -> None:
    message = old_request()
    message.content[FIT_MODEL] = ArrayRecord({"0": Array("", (), "", b"trees")})
    with pytest.raises(ConfigurationError, match="the model cannot be read"):
        fit([CompressionMod(Identity())], message)


def test_the_round_must_be_known() -> None:
    by_config = fit([CompressionMod(Drive())], old_request(group="", config={"server-round": 5}))
    assert data(arrays_of(by_config)) == data(arrays_of(fit([CompressionMod(Drive())], old_request(round_=5))))
    assert data(arrays_of(by_config)) != data(arrays_of(fit([CompressionMod(Drive())], old_request(round_=4))))
    with pytest.raises(ConfigurationError, match="does not tell its round"):
        fit([CompressionMod(Drive())], old_request(group="x"))


def test_a_client_that_did_not_train_replies_as_it_does() -> None:
    class Refuses(OldClient):
        def fit(self, ins: Any) -> FitRes:
            return FitRes(Status(Code.FIT_NOT_IMPLEMENTED, "not me"), Parameters([], ""), 0, {})

    context = node()
    reply = fit([CompressionMod(L1Sign(), error_feedback=True)], old_request(), context, client=_AsNumPy(Refuses()))
    assert dict(reply.content["fitres.status"]) == {"code": Code.FIT_NOT_IMPLEMENTED.value, "message": "not me"}
    assert list(arrays_of(reply)) == ["_empty"] and not context.state


class _AsNumPy(NumPyClient):
    """Hands out a client that is one of the old API already."""

    def __init__(self, client: OldClient) -> None:
        self.client = client

    def to_client(self) -> OldClient:
        return self.client


def test_errors_pass() -> None:
    def fails(message: Message, context: Context, call_next: Any) -> Message:
        return Message(Error(2, "no"), reply_to=message)

    reply = fit([CompressionMod(L1Sign()), fails], old_request())
    assert reply.has_error() and reply.error.reason == "no"


@pytest.mark.parametrize("order", ["restricted", "arbitrary"])
@pytest.mark.parametrize("attack", [SignFlip(), Scaling(factor=3.0)], ids=lambda attack: attack.name)
def test_attacks_do_the_same_in_both_apis(attack: Any, order: str) -> None:
    compression = CompressionMod(L1Sign(), report_norm=2)
    mods = [compression, attack] if order == "restricted" else [attack, compression]
    old = fit(mods, old_request())
    new = app(lambda w: {n: x - torch.from_numpy(STEP[int(n)]) for n, x in w.items()}, mods)(request(NAMED), node())
    assert data(arrays_of(old)) == data(replied(new))
    assert metrics_of(old)["robustcomp.reported.norm-2"] == dict(new.content[wire.NORM_RECORD])["norm-2"]
    assert data(arrays_of(old)) != data(arrays_of(fit([compression], old_request())))


def _steps_of(sign: int) -> tuple[Callable[[NDArrays], NDArrays], Callable[[Model], Model]]:
    """Return training that takes the step of this sign, for the old API and for the new."""

    def old(model: NDArrays) -> NDArrays:
        return [w - sign * s for w, s in zip(model, STEP, strict=True)]

    def new(model: Model) -> Model:
        return {n: x - sign * torch.from_numpy(STEP[int(n)]) for n, x in model.items()}

    return old, new


def test_momentum_does_the_same_in_both_apis() -> None:
    mods, old_state, new_state = [CompressionMod(Identity()), ClientMomentum(0.5)], node(), node()
    for round_, sign in ((1, 1), (2, -1)):
        train_old, train_new = _steps_of(sign)
        old = fit(mods, old_request(round_=round_), old_state, Trains(train_old))
        new = app(train_new, mods)(request(NAMED, round_=round_), new_state)
        assert data(arrays_of(old)) == data(replied(new))


def test_an_app_of_the_new_api_says_so() -> None:
    def replies(message: Message, context: Context, call_next: Any) -> Message:
        return Message(RecordDict({"arrays": numpy_arrays(MODEL)}), reply_to=message)

    with pytest.raises(ConfigurationError, match="an app of the new API"):
        fit([CompressionMod(L1Sign()), replies], old_request())


# -- a new server ---------------------------------------------------------------------------------------------------------


def new_request(kind: str = "train", **config: Any) -> Message:
    model = {"layer.weight": NAMED["0"], "layer.bias": NAMED["1"]}
    content = RecordDict({"arrays": to_arrays(model), "config": ConfigRecord({"server-round": 1, **config})})
    return addressed(content, envelope(Message(content, 7, kind), "new"))


def test_an_old_client_trains_for_a_new_server() -> None:
    seen: list[dict[str, Any]] = []

    class Keeps(Trains):
        def fit(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[NDArrays, int, dict[str, Any]]:
            seen.append(config)
            return super().fit(parameters, config)

    message = new_request(lr=0.5, betas=[0.9, 0.99])
    before = new_request(lr=0.5, betas=[0.9, 0.99])
    client = Keeps(steps, {"loss": 0.5, "who": "me", "ok": True, "auc": float("nan")})
    reply = client_app([old_client], lambda _: client)(message, node())
    assert message.content == before.content
    assert seen == [{"server-round": 1, "lr": 0.5}]  # the old API has no lists
    assert list(reply.content) == ["arrays", "metrics"] and list(replied(reply)) == ["layer.weight", "layer.bias"]
    got = from_arrays(replied(reply))
    assert torch.equal(got["layer.weight"], NAMED["0"] - torch.from_numpy(STEP[0]))
    metrics = reply.content["metrics"]
    assert isinstance(metrics, MetricRecord) and set(metrics) == {"loss", "auc", "num-examples"}
    assert metrics["num-examples"] == 3


def test_an_old_client_evaluates_for_a_new_server() -> None:
    reply = client_app([old_client])(new_request("evaluate"), node(1))
    told = {"loss": float(np.abs(MODEL[0]).mean()), "num-examples": 5, "accuracy": 0.5, "train-loss": 1.0}
    assert dict(reply.content["metrics"]) == told


def test_mods_before_it_see_the_new_api() -> None:
    mods: list[Mod] = [CompressionMod(L1Sign()), old_client]
    old = client_app(mods, lambda _: Trains(steps, {"loss": 0.5}))(new_request(), node())
    assert [array.stype for array in replied(old).values()] == ["robustcomp/l1-sign/1"]


def test_old_messages_pass_through_it() -> None:
    message = old_request()
    assert client_app([old_client])(message, node()).content == client_app()(message, node()).content


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_status_that_is_not_ok_is_an_error_of_the_node(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="the client replied with status"):
        client_app([old_client], lambda _: NumPyClient())(new_request(kind), node())


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_without_it_one_sentence_says_what_to_do(kind: str) -> None:
    def mod(message: Message, context: Context, call_next: Any) -> Message:
        return call_next_or_explain(call_next, message, context)

    with pytest.raises(ConfigurationError, match="list old_client last"):
        client_app([mod])(new_request(kind), node())

    def raises(message: Message, context: Context, call_next: Any) -> Message:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client_app([mod, raises])(new_request(kind), node())


def test_a_strategy_of_the_new_api_trains_old_clients() -> None:
    from flwr_robustcomp.simulations import InProcessGrid

    strategy = NormThreshold(compressor=Identity(), trim=1, min_train_nodes=4, min_available_nodes=4, fraction_evaluate=1.0)
    with InProcessGrid(client_app([CompressionMod(Identity()), old_client]), 4) as grid:
        result = strategy.start(grid, to_arrays(NAMED), num_rounds=2)
    assert [len(report.kept) for report in strategy.reports] == [3, 3]
    assert not any(report.rejected for report in strategy.reports)
    # Partition 3, the farthest away, is trimmed: w goes half-way to 5/3, the mean of the other targets, twice.
    assert torch.allclose(from_arrays(result.arrays)["0"], NAMED["0"] / 4 + 5 / 4)
    assert result.evaluate_metrics_clientapp[2]["accuracy"] == 0.5
