"""What a client sends keeps the clipping norm that the server asked for, whatever the compressor and the residual."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable, Mod
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.parts.compressors import SAMPLES
from flwr_robustcomp.clients.error_feedback import compress_with_feedback
from flwr_robustcomp.clients.privacy import check_mod_order, within_clip
from flwr_robustcomp.compressors import (
    QSGD,
    Compressor,
    Identity,
    L1Sign,
    NonZeros,
    Sign,
    TopK,
)
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.layout import Layout, Slot
from flwr_robustcomp.spans import Span, compress_spans, decompress_spans
from tests.apps import app, gaussian_model, node, request

MODEL = gaussian_model(0)
LAYOUT = Layout.of(MODEL)


def _fits(compressor: Compressor) -> bool:
    try:
        compressor.check_shape((LAYOUT.dim,))
    except ConfigurationError:
        return False
    return not isinstance(compressor, Sign) and not (isinstance(compressor, NonZeros) and isinstance(compressor.plain, Sign))


COMPRESSORS = [one for samples in SAMPLES.values() for one in samples if _fits(one)]


def asked(clip: Any = None) -> Message:
    message = request(MODEL)
    if clip is not None:
        config = message.content["config"]
        assert isinstance(config, ConfigRecord)
        config["clipping_norm"] = clip
    return message


def spans_of(compressor: Compressor, granularity: Any = "model") -> list[Span]:
    """Return the spans of the model, each with this very compressor."""
    slots = LAYOUT.compressed if granularity == "array" else [Slot("", torch.Size([LAYOUT.dim]), LAYOUT.dtype, 0, LAYOUT.dim)]
    return [Span(slot.name or None, tuple(slot.shape), slot.dtype, slot.start, slot.stop, compressor) for slot in slots]


def sent(x: torch.Tensor, spans: list[Span], seed: int) -> float:
    payloads = compress_spans(x, spans, np.random.default_rng(seed))
    return float(decompress_spans(payloads, spans, torch.float64).norm())


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=repr)
def test_what_is_sent_is_no_longer_than_the_clip(compressor: Compressor) -> None:
    @settings(max_examples=20)
    @given(
        granularity=st.sampled_from(["model", "array"]),
        clip=st.floats(1e-3, 1e3),
        scale=st.floats(1e-3, 1e3),
        residual=st.one_of(st.none(), st.floats(0, 1e3)),
        seed=st.integers(0, 2**32 - 1),
    )
    def check(granularity: Any, clip: float, scale: float, residual: float | None, seed: int) -> None:
        rng = np.random.default_rng(seed)
        x = torch.from_numpy(rng.standard_normal(LAYOUT.dim)).float()
        x *= scale / float(x.norm())
        e = None if residual is None else residual * torch.from_numpy(rng.standard_normal(LAYOUT.dim)).float()
        draws, spans = np.random.default_rng(seed), spans_of(compressor.for_round(1), granularity)
        p, left = within_clip(asked(clip), MODEL, x, {}, e, spans=spans, rng=draws)
        assert left is None
        assert draws.bit_generator.state == np.random.default_rng(seed).bit_generator.state  # left as it was
        assert sent(p, spans, seed) <= clip * (1 + 1e-5)
        total = x if e is None else x + e
        factor = float(p.norm()) / max(float(total.norm()), 1e-30)
        assert factor <= 1 + 1e-6 and torch.allclose(p, factor * total, rtol=1e-3, atol=1e-5 * float(total.abs().max()))

    check()


def test_without_a_clip_nothing_changes() -> None:
    x, e = torch.ones(LAYOUT.dim), torch.ones(LAYOUT.dim)
    p, left = within_clip(asked(), MODEL, x, {}, e, spans=spans_of(L1Sign()), rng=None)
    assert p is x and left is e


def test_what_is_short_enough_is_compressed_as_it_is() -> None:
    x = torch.ones(LAYOUT.dim)
    p, _ = within_clip(asked(1e6), MODEL, x, {}, None, spans=spans_of(QSGD(2)), rng=np.random.default_rng(0))
    assert torch.equal(p, x)


def test_error_feedback_after_clipping_alone_is_too_long_and_its_residual_stays_bounded_with_it() -> None:
    clip, rounds, compressor = 1.0, 40, TopK(ratio=0.1)
    spans = spans_of(compressor)
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(LAYOUT.dim)).float()
    x = direction / direction.norm()  # clipped by Flower's mod already
    bare, kept = None, None
    longest = {"bare": 0.0, "kept": 0.0}
    for _ in range(rounds):
        ((payload,),), (bare,) = compress_with_feedback(x[None].clone(), [bare], spans, [None])
        longest["bare"] = max(longest["bare"], compressor.norm(payload))
        p, e = within_clip(asked(clip), MODEL, x, {}, kept, spans=spans, rng=None)
        ((payload,),), (kept,) = compress_with_feedback(p[None].clone(), [e], spans, [None])
        longest["kept"] = max(longest["kept"], compressor.norm(payload))
        assert float(kept.norm()) <= float(p.norm())
    assert longest["bare"] > 1.5 * clip and longest["kept"] <= clip * (1 + 1e-6)


def test_uncompressed_arrays_count() -> None:
    x = 10 * torch.ones(LAYOUT.dim)
    model = {**MODEL, "mean": torch.zeros(4)}
    aside = {"mean": torch.tensor([0.0, 3.0, 0.0, 0.0])}
    p, _ = within_clip(asked(5.0), model, x, aside, None, spans=spans_of(Identity()), rng=None)
    assert float(p.norm()) == pytest.approx(4.0, rel=1e-5)
    with pytest.raises(ConfigurationError, match=r"\(mean\) must move by at most the clipping_norm = 2 of the request, got 3"):
        within_clip(asked(2.0), model, x, aside, None, spans=spans_of(Identity()), rng=None)


def test_a_compressor_that_does_not_scale_is_refused() -> None:
    x = torch.ones(LAYOUT.dim)
    with pytest.raises(
        ConfigurationError, match=r"compressor must send at most the clipping_norm = 0\.5 .* Sign.* sends 4\.79"
    ):
        within_clip(asked(0.5), MODEL, x, {}, None, spans=spans_of(Sign()), rng=None)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan, "1", True])
def test_a_clip_that_is_none_is_refused(clip: Any) -> None:
    with pytest.raises(ConfigurationError, match="clipping_norm of the request must be a positive number"):
        within_clip(asked(clip), MODEL, torch.ones(LAYOUT.dim), {}, None, spans=spans_of(L1Sign()), rng=None)


# -- the order ------------------------------------------------------------------------------------------------------------


def ours(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    check_mod_order()
    return call_next(message, context)


LOCAL = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=1.0, delta=1e-5)
MODS: dict[str, Mod] = {
    "fixedclipping_mod": fixedclipping_mod,
    "adaptiveclipping_mod": adaptiveclipping_mod,
    "LocalDpMod": LOCAL,
}


@pytest.mark.parametrize("name", MODS)
def test_a_mod_for_privacy_outside_of_the_compression_is_refused(name: str) -> None:
    client = app(lambda w: w, [MODS[name], ours])
    with pytest.raises(ConfigurationError) as raised:
        client(asked(1.0), node())
    assert str(raised.value) == (
        f"mods must list {name} after the compression, which packs what it has clipped: "
        f"ClientApp(mods=[CompressionMod(...), {name}]), got it before"
    )


@pytest.mark.parametrize("name", MODS)
def test_inside_it_is_welcome(name: str) -> None:
    client = app(lambda w: {n: t + 1 for n, t in w.items()}, [ours, MODS[name]])
    assert not client(asked(1.0), node()).has_error()


def test_other_mods_may_stand_outside() -> None:
    def somebodys(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        return call_next(copy.copy(message), context)

    assert not app(lambda w: w, [somebodys, ours])(asked(), node()).has_error()
