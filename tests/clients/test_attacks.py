"""Byzantine mods on either side of the compressor, and the labels they change."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.client.mod.utils import make_ffn
from flwr.clientapp.typing import Mod
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.clients import (
    BackdoorTrigger,
    CompressionMod,
    FlippedLabels,
    GaussianNoise,
    RandomLabels,
    Scaling,
    Schedule,
    ShiftedLabels,
    SignFlip,
    UpdateAttack,
    Zero,
    training_images,
    training_labels,
)
from flwr_robustcomp.clients.update import Reply
from flwr_robustcomp.compressors import Compressor, Identity, L1Sign, TopK, vector_norm
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.packing import Granularity
from tests.apps import app, flat, gaussian_model, minus, node, replied, request

MODEL, STEP = gaussian_model(0), gaussian_model(1)
X = flat(STEP).double()


def _decoded(answer: Message) -> Tensor:
    packed = [wire.unpack_trusted(array) for array in replied(answer).values()]
    return torch.cat([compressor.decompress(payload).flatten().double() for compressor, payload in packed])


@pytest.mark.parametrize("reply", ["weights", "update"])
@pytest.mark.parametrize(("make", "factor"), [(SignFlip, -1.0), (Scaling, 10.0)])
def test_restricted_attacks_feed_an_honest_compressor(reply: Reply, make: type[UpdateAttack], factor: float) -> None:
    train = (lambda w: minus(w, STEP)) if reply == "weights" else (lambda w: STEP)
    answer = app(train, [CompressionMod(Identity(), reply=reply), make(reply=reply)])(request(MODEL), node())
    assert torch.allclose(_decoded(answer), factor * X, atol=1e-5)


@pytest.mark.parametrize("granularity", ["model", "array"])
@pytest.mark.parametrize("compressor", [Identity(), L1Sign(), TopK(k=2)], ids=repr)
def test_arbitrary_attacks_have_the_last_word_and_still_decode(granularity: Granularity, compressor: Compressor) -> None:
    honest = CompressionMod(compressor, granularity=granularity, reply="update", report_norm=2)
    plain = app(lambda w: STEP, [honest])(request(MODEL), node())
    flipped = app(lambda w: STEP, [SignFlip(reply="update"), honest])(request(MODEL), node())
    assert torch.allclose(_decoded(flipped), -_decoded(plain), atol=1e-5)
    norms = flipped.content[wire.NORM_RECORD]
    assert isinstance(norms, ConfigRecord)
    assert norms["norm-2"] == pytest.approx(vector_norm(_decoded(flipped), 2), rel=1e-5)


def test_gaussian_noise_has_its_variance_and_is_fresh_each_round() -> None:
    big = {"w": torch.zeros(40_000)}
    client = app(lambda w: w, [CompressionMod(Identity(), reply="update"), GaussianNoise(variance=10.0, reply="update")])
    first, again, second = (_decoded(client(request(big, round_=r), node(seed=3))) for r in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert float(first.var()) == pytest.approx(10.0, abs=5 * 10 * math.sqrt(2 / 40_000))
    assert float(first.mean()) == pytest.approx(0.0, abs=5 * math.sqrt(10 / 40_000))


def test_only_the_named_partitions_lie() -> None:
    client = app(lambda w: STEP, [CompressionMod(Identity(), reply="update"), SignFlip(partitions={1}, reply="update")])
    assert torch.allclose(_decoded(client(request(MODEL), node(0))), X)
    assert torch.allclose(_decoded(client(request(MODEL), node(1))), -X)


def test_attacks_leave_evaluation_alone() -> None:
    answer = app(lambda w: w, [SignFlip(), ShiftedLabels()])(request(MODEL, kind="evaluate"), node())
    assert dict(answer.content["metrics"]) == {"num-examples": 3, "loss": 0.5}


LABELS = torch.tensor([0, 9, 3, 3, 7, 1])


def _labels_under(*mods: Mod, partition: int = 0, round_: int = 1) -> Tensor:
    seen = []

    def train(message: Message, context: Context) -> Message:
        seen.append(training_labels(LABELS, 10, message, context))
        return Message(message.content, reply_to=message)

    make_ffn(train, list(mods))(request(MODEL, round_=round_), node(partition, seed=5))
    return seen[0]


def test_honest_nodes_keep_their_labels() -> None:
    assert _labels_under() is LABELS
    assert _labels_under(ShiftedLabels(partitions={4}), partition=3) is LABELS


def test_shifted_labels_are_nine_minus_y() -> None:
    assert _labels_under(ShiftedLabels()).tolist() == (9 - LABELS).tolist()


def test_random_labels_stay_the_same_from_round_to_round_and_differ_between_nodes() -> None:
    one = _labels_under(RandomLabels(), round_=1)
    assert one.dtype == LABELS.dtype and bool(((one >= 0) & (one < 10)).all())
    assert torch.equal(one, _labels_under(RandomLabels(), round_=2))
    assert not torch.equal(one, _labels_under(RandomLabels(), partition=1))


def test_one_class_is_called_another() -> None:
    assert _labels_under(FlippedLabels(source=3, target=7)).tolist() == [0, 9, 7, 7, 7, 1]
    with pytest.raises(ConfigurationError, match="target must be one of the 10 classes, got 12"):
        _labels_under(FlippedLabels(source=3, target=12))


@pytest.mark.parametrize("shape", [(6, 16), (6, 1, 4, 4), (6, 4, 4)])
def test_a_backdoor_marks_the_first_images_and_calls_those_the_target(shape: tuple[int, ...]) -> None:
    images = torch.zeros(shape)
    seen = []

    def train(message: Message, context: Context) -> Message:
        seen.append((training_images(images, message), training_labels(LABELS, 10, message, context)))
        return Message(message.content, reply_to=message)

    mods: list[Mod] = [BackdoorTrigger(target=5, size=2, share=0.5)]
    make_ffn(train, mods)(request(MODEL), node())
    ((marked, labels),) = seen
    assert labels.tolist() == [5, 5, 5, 3, 7, 1]
    assert marked.shape == images.shape
    square = marked.reshape(6, 4, 4)
    assert bool((square[:3, 2:, 2:] == 1).all())
    assert float(square.sum()) == 3 * 4
    assert float(images.sum()) == 0  # the node's own data are left alone


def test_honest_nodes_keep_their_images() -> None:
    images = torch.zeros(6, 16)
    assert training_images(images, request(MODEL)) is images


def test_zero_sends_nothing() -> None:
    client = app(lambda w: STEP, [CompressionMod(Identity(), reply="update"), Zero(reply="update")])
    assert float(_decoded(client(request(MODEL), node())).abs().max()) == 0


def test_attacks_are_on_in_the_rounds_of_their_schedule() -> None:
    schedule = Schedule(start=2, stop=3)
    client = app(lambda w: STEP, [CompressionMod(Identity(), reply="update"), SignFlip(schedule=schedule, reply="update")])
    for round_, factor in ((1, 1), (2, -1), (3, -1), (4, 1)):
        assert torch.allclose(_decoded(client(request(MODEL, round_=round_), node())), factor * X)
        shifted = _labels_under(ShiftedLabels(schedule=schedule), round_=round_)
        assert (shifted is LABELS) == (factor == 1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: FlippedLabels(source=2, target=2), "target must be a class other than source = 2, got 2"),
        (lambda: BackdoorTrigger(share=0.0), r"share must be in \(0, 1\], got 0.0"),
        (lambda: BackdoorTrigger(size=0), "size must be at least 1, got 0"),
        (lambda: Schedule(start=0), "start must be at least 1, got 0"),
        (lambda: GaussianNoise(variance=0.0), "variance must be positive and finite, got 0.0"),
        (lambda: Scaling(factor=math.inf), "factor must be finite, got inf"),
        (lambda: SignFlip(reply="both"), "reply must be one of weights, update, got 'both'"),
    ],
)
def test_bad_options_raise_at_construction(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make()
