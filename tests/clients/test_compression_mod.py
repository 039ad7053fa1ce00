"""The compression mod around training functions that know nothing of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flwr_robustcomp import wire
from flwr_robustcomp.clients import CompressionMod
from flwr_robustcomp.clients.error_feedback import RESIDUAL
from flwr_robustcomp.clients.update import Reply
from flwr_robustcomp.compressors import QSGD, Compressor, Identity, L1Sign, RandomK, Sign, TopK, vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity
from flwr_robustcomp.spans import DELTA_METRIC
from tests.apps import Model, app, flat, gaussian_model, minus, node, replied, request

MODEL, STEP = gaussian_model(0), gaussian_model(1)


def _sent(reply: Message) -> torch.Tensor:
    """Return Q(p) as the server decodes it."""
    packed = [array for array in replied(reply).values() if array.stype.startswith("robustcomp/")]
    return torch.cat([c.decompress(p).flatten().double() for c, p in map(wire.unpack_trusted, packed)])


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("reply", ["weights", "update"])
def test_weights_and_updates_become_the_same_x(granularity: Granularity, reply: Reply) -> None:
    mod = CompressionMod(Identity(), granularity=granularity, reply=reply)
    train = (lambda w: minus(w, STEP)) if reply == "weights" else (lambda w: STEP)
    answer = app(train, [mod])(request(MODEL), node())
    assert torch.allclose(_sent(answer), flat(STEP).double(), atol=1e-6)
    names = [wire.MODEL_ARRAY] if granularity == "model" else ["weight", "bias"]
    assert list(replied(answer)) == names
    assert dict(answer.content["metrics"]) == {"num-examples": 3}


@pytest.mark.parametrize("d", [1000, 795_010])
def test_a_scaled_sign_update_fits_its_bits(d: int) -> None:
    answer = app(lambda w: {"w": w["w"] - 1}, [CompressionMod(L1Sign())])(request({"w": torch.zeros(d)}), node())
    assert sum(len(array.data) for array in replied(answer).values()) <= d / 8 + 64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_models_dtype_travels(dtype: torch.dtype) -> None:
    model = gaussian_model(0, dtype)
    answer = app(lambda w: minus(w, gaussian_model(1, dtype)), [CompressionMod(L1Sign())])(request(model), node())
    assert replied(answer)[wire.MODEL_ARRAY].dtype == str(dtype).removeprefix("torch.")


def test_batchnorm_counters_and_statistics_travel_as_they_are() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))

    def train(weights: Model) -> Model:
        network.load_state_dict(weights)
        network.train()(torch.arange(12.0).reshape(4, 3)).sum().backward()
        return dict(network.state_dict())

    model = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    arrays = replied(app(train, [CompressionMod(L1Sign())])(request(model), node()))
    assert set(arrays) == {wire.MODEL_ARRAY, "1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert wire.read_dense(arrays["1.num_batches_tracked"]).item() == 1
    assert torch.equal(wire.read_dense(arrays["1.running_var"]), network.state_dict()["1.running_var"])


@pytest.mark.parametrize("compressor", [L1Sign(), TopK(k=2), RandomK(k=3), QSGD(2)], ids=repr)
@pytest.mark.parametrize("granularity", ["model", "array"])
def test_sent_plus_residual_is_update_plus_old_residual(compressor: Compressor, granularity: Granularity) -> None:
    client = app(lambda w: STEP, [CompressionMod(compressor, error_feedback=True, granularity=granularity, reply="update")])
    context, x = node(), flat(STEP).double()
    old = torch.zeros_like(x)
    for round_ in range(1, 6):
        answer = client(request(MODEL, round_=round_), context)
        new = RESIDUAL.load(context.state, len(x), torch.float32)
        assert new is not None
        assert torch.allclose(_sent(answer) + new.double(), x + old, atol=1e-5)
        old = new.double()


def test_without_error_feedback_nothing_is_kept() -> None:
    context = node()
    app(lambda w: STEP, [CompressionMod(L1Sign(), reply="update")])(request(MODEL), context)
    assert not context.state


def test_error_feedback_sends_everything_in_the_end() -> None:
    client, context = app(lambda w: STEP, [CompressionMod(TopK(k=1), error_feedback=True, reply="update")]), node()
    total = sum((_sent(client(request(MODEL, round_=r), context)) for r in range(1, 400)), torch.zeros(23, dtype=torch.float64))
    assert torch.allclose(total / 399, flat(STEP).double(), atol=0.1)


def test_a_residual_of_another_shape_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    client, context = app(lambda w: w, [CompressionMod(L1Sign(), error_feedback=True, reply="update")]), node()
    client(request({"w": torch.ones(4)}), context)
    with caplog.at_level("WARNING", logger="flwr"):
        answer = client(request({"w": torch.tensor([1.0, -1.0])}), context)
    assert "Residual of shape (4,)" in caplog.text
    assert _sent(answer).tolist() == [1.0, -1.0]
    assert RESIDUAL.record in context.state


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_the_norm_of_what_is_compressed_is_reported(order: float) -> None:
    client = app(lambda w: STEP, [CompressionMod(TopK(k=1), error_feedback=True, reply="update", report_norm=order)])
    context = node()
    for round_ in (1, 2):
        old = RESIDUAL.load(context.state, 23, torch.float32)
        norms = client(request(MODEL, round_=round_), context).content[wire.NORM_RECORD]
        p = flat(STEP) if old is None else flat(STEP) + old
        assert isinstance(norms, ConfigRecord)
        assert norms[wire.norm_key(order)] == pytest.approx(vector_norm(p, order))


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [L1Sign(), TopK(k=2), Identity()], ids=repr)
def test_the_measured_delta_is_told_where_it_is_asked_for(compressor: Compressor, granularity: str, feedback: bool) -> None:
    options: dict[str, Any] = {"error_feedback": feedback, "granularity": granularity, "reply": "update"}
    silent = app(lambda w: STEP, [CompressionMod(compressor, **options)])(request(MODEL), node())
    assert DELTA_METRIC not in silent.content["metrics"]
    client, context = app(lambda w: STEP, [CompressionMod(compressor, report_delta=True, **options)]), node()
    p = flat(STEP).double()
    for round_ in (1, 2):
        answer = client(request(MODEL, round_=round_), context)
        wanted = 1 - float((_sent(answer) - p).square().sum() / p.square().sum())
        assert dict(answer.content["metrics"]) == {"num-examples": 3, DELTA_METRIC: pytest.approx(wanted, abs=1e-6)}
        if feedback:
            p = flat(STEP).double() + p - _sent(answer)


def test_a_delta_travels_alone_where_there_are_no_metrics_and_not_at_all_where_it_is_not_finite() -> None:
    def bare(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    mod = CompressionMod(Identity(), report_delta=True)
    answer = mod(request(MODEL), node(), bare)
    assert [dict(r) for r in answer.content.values() if isinstance(r, MetricRecord)] == [{DELTA_METRIC: 1.0}]  # x = 0 = Q(0)
    answer = CompressionMod(Sign(plus_zero=True), report_delta=True)(request(MODEL), node(), bare)  # x = 0, Q(0) = 1
    assert not [r for r in answer.content.values() if isinstance(r, MetricRecord)]


def test_randomized_compressors_draw_by_seed_round_and_partition() -> None:
    client = app(lambda w: STEP, [CompressionMod(QSGD(2), reply="update")])

    def bits(round_: int, partition: int, seed: int) -> bytes:
        return replied(client(request(MODEL, round_=round_), node(partition, seed=seed)))[wire.MODEL_ARRAY].data

    assert bits(1, 0, 0) == bits(1, 0, 0)
    assert len({bits(1, 0, 0), bits(2, 0, 0), bits(1, 1, 0), bits(1, 0, 1)}) == 4


def test_evaluation_and_errors_pass_untouched() -> None:
    mod = CompressionMod(L1Sign(), error_feedback=True)
    reply = app(lambda w: w, [mod])(request(MODEL, kind="evaluate"), node())
    assert dict(reply.content["metrics"]) == {"num-examples": 3, "loss": 0.5}
    failed = mod(request(MODEL), node(), lambda message, context: Message(Error(1, "no data"), reply_to=message))
    assert failed.has_error() and failed.error.reason == "no data"


def test_a_mod_of_one_function_works_too() -> None:
    client = ClientApp()
    inner = app(lambda w: STEP, [])

    @client.train(mods=[CompressionMod(Identity(), reply="update")])
    def _train(message: Message, context: Context) -> Message:
        return inner(message, context)

    assert torch.allclose(_sent(client(request(MODEL), node())), flat(STEP).double())


@pytest.mark.parametrize(
    ("train", "named"),
    [
        (lambda w: {"weight": w["weight"]}, "the reply must hold the model's arrays"),
        (lambda w: {**w, "more": w["bias"]}, "the reply must hold the model's arrays"),
        (lambda w: {**w, "bias": w["bias"].double()}, "the reply does not fit the model: dtype must be"),
        (lambda w: {**w, "bias": w["bias"][:1]}, "the reply does not fit the model: shape must be"),
    ],
    ids=["missing", "extra", "dtype", "shape"],
)
def test_replies_that_do_not_fit_the_model_say_so(train: Callable[[Model], Model], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        app(train, [CompressionMod(L1Sign())])(request(MODEL), node())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"granularity": "layer"}, "granularity must be one of model, array, got 'layer'"),
        ({"reply": "gradient"}, "reply must be one of weights, update, got 'gradient'"),
        ({"report_norm": 3}, "report_norm must be one of 1, 2, inf, None, got 3"),
    ],
)
def test_bad_options_raise_at_construction(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        CompressionMod(L1Sign(), **options)
    with pytest.raises(ConfigurationError, match="compressor must be a Compressor or a Choice"):
        CompressionMod("l1-sign")  # type: ignore[arg-type]
