"""Configurations held against the theorems, the catalogue that shows them, and what they cost."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import pytest
import torch

from flwr_robustcomp import wire
from flwr_robustcomp.compressors import COMPRESSORS, QSGD, Compressor, CrossPolytope, Identity, L1Sign, RandomK, Sign, TopK
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import CATALOGUE, Theorem, cover, shortfall, uplink
from flwr_robustcomp.theory.catalogue import subset_bits
from tests.compressors.samples import gaussian, rng


def _cover(compressor: Compressor, delta: float | None, theorem: Theorem = 2, **options: Any) -> Any:
    return cover(compressor, delta, **{"nodes": 200, "byzantine": 20, "trim": 22, "theorem": theorem, **options})


def test_the_experiments_setting() -> None:
    guaranteed = _cover(L1Sign(), L1Sign().delta(1000))
    assert not guaranteed.covered and not guaranteed.obstacles
    assert guaranteed.would_be(2 / math.pi)
    assert shortfall(guaranteed, L1Sign()) == "delta must exceed 0.399, and L1Sign() guarantees 0.001"
    assert guaranteed.needed["stated"] > 2 / math.pi > guaranteed.needed["exact"] > guaranteed.needed["sharp"]
    assert _cover(Identity(), 1.0).covered and shortfall(_cover(Identity(), 1.0), Identity()) is None


@pytest.mark.parametrize(
    ("compressor", "theorem", "options", "why"),
    [
        (Sign(), 2, {}, "does not embed the norm"),
        (Sign(), 1, {}, "a client that lies may report any"),
        (Sign(), 1, {"adversary": "restricted"}, "delta must exceed 0.399, and Sign() guarantees none"),
        (TopK(ratio=0.5), 1, {"adversary": "restricted"}, None),
        (TopK(ratio=0.5), 1, {}, None),
        (QSGD(levels=300), 2, {}, None),
        (QSGD(levels=300), 1, {}, None),
        (RandomK(ratio=0.4), 1, {}, "delta must exceed 0.412, and RandomK(ratio=0.4)"),  # 0.399 would do for every draw
        (RandomK(ratio=0.4), 2, {}, "delta must exceed 0.412, and RandomK(ratio=0.4)"),
        (TopK(ratio=0.4), 2, {}, None),
        (CrossPolytope(repetitions=999), 1, {"nodes": 100, "byzantine": 10, "trim": 10}, None),
        (TopK(ratio=0.5), 2, {}, None),
        (TopK(ratio=0.5), 2, {"norm_order": 1}, "sorted by the l1 norm"),
        (L1Sign(), 2, {"norm_order": 1}, "delta must exceed"),
        (TopK(ratio=0.5), 1, {"error_feedback": True}, "no theorem covers error feedback with Byzantine nodes"),
        (TopK(ratio=0.01), 1, {"error_feedback": True, "byzantine": 0, "trim": 0}, None),
        (RandomK(ratio=0.01), 2, {"byzantine": 0, "trim": 0}, None),  # nobody is trimmed: the order says nothing
        (Identity(), 2, {"byzantine": 80, "trim": 80}, "no compressor would do"),
    ],
)
def test_what_stands_outside(compressor: Compressor, theorem: Theorem, options: dict[str, Any], why: str | None) -> None:
    coverage = _cover(compressor, compressor.delta(1000), theorem, **options)
    assert coverage.covered == (why is None)
    said = shortfall(coverage, compressor)
    assert said is None if why is None else said is not None and why in said
    if why is not None and "delta" not in why:
        assert not coverage.would_be(1.0)


def test_the_adversary_is_one_of_two() -> None:
    with pytest.raises(ConfigurationError, match="adversary must be one of restricted, arbitrary, got 'polite'"):
        _cover(Identity(), 1.0, 1, adversary="polite")


def test_the_rows_of_a_compressor_are_its_own() -> None:
    for name, entry in CATALOGUE.items():
        assert entry.configurations
        assert all(type(compressor) is COMPRESSORS[name] for compressor in entry.configurations)


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_packed_form_beats_its_entropy(name: str) -> None:
    entry = CATALOGUE[name]
    x = gaussian(10_000).reshape(100, 100) if entry.matrix else gaussian(10_000)
    for compressor in entry.configurations:
        payload = compressor.compress(x, rng())
        bits = entry.entropy(compressor, payload)
        header = 8 * 32  # an adaptive coder's tables and scales
        assert 0 < bits <= 8 * len(payload.body) + header


def test_subsets_are_counted() -> None:
    assert subset_bits(10, 3) == pytest.approx(math.log2(120))
    assert subset_bits(10, 0) == subset_bits(10, 10) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "compressor", list(itertools.chain.from_iterable(e.configurations for e in CATALOGUE.values())), ids=repr
)
def test_the_cost_is_that_of_real_payloads(compressor: Compressor) -> None:
    shape = (20, 50) if compressor.wants_matrices else (1000,)
    cost = uplink(compressor, 200, shape)
    size = struct.calcsize(compressor.header) + compressor.body_size_of(shape, torch.float32)
    assert cost.packed == 200 * size
    assert size >= len(wire.pack(compressor.compress(gaussian(1000).reshape(shape), rng()), compressor).data)
    assert cost.dense == 200 * 4000
    assert cost.bits == pytest.approx(8 * cost.packed / 200 / 1000)
    assert cost.ratio == pytest.approx(cost.dense / cost.packed)
