"""How long a forged payload may be, under each rule that replies are sorted by."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.forged_payloads import Upward, forge, longest
from benchmarks.gains import table
from flwr_robustcomp.compressors import (
    QSGD,
    Compressor,
    CrossPolytope,
    Drive,
    Eden,
    L1Sign,
    LowRank,
    RandomK,
    RotatedQuantizer,
    Sign,
    TernGrad,
    TopK,
)
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.theory import CATALOGUE, label
from flwr_robustcomp.theory.gain import SortRule, gain, typical_length
from tests.compressors.samples import ALL, gaussian

RULES: list[SortRule] = ["reported", "larger", "compressed"]


@pytest.mark.parametrize(
    ("compressor", "shape", "ratio"),
    [
        (CrossPolytope(repetitions=999), (1000,), math.sqrt(1000) / 2),
        (CrossPolytope(repetitions=7, contraction=False), (1000,), math.sqrt(1000)),
        (TernGrad(bucket=None, contraction=True), (1000,), 2 * math.sqrt(1000) / (1 + math.sqrt(1000))),
        (TernGrad(clip=0.1, bucket=None, contraction=True), (1000,), 2 * math.sqrt(1000) / (1 + math.sqrt(1000))),
        (QSGD(levels=1, bucket=None, contraction=True), (1000,), math.sqrt(1000) / (1 + math.sqrt(1000))),
        (QSGD(levels=16, bucket=None), (1000,), math.sqrt(1000 + 3 * 255) / 16),
        (QSGD(levels=16), (1000,), math.sqrt(512 + 3 * 255) / 16),
        (TernGrad(), (1000,), math.sqrt(512)),
        (Drive(unbiased_scale=True), (1000,), math.sqrt(512)),
        (Drive(), (1000,), 1.0),
        (Eden(), (1000,), 1.0),
        (RandomK(k=10, unbiased=True), (1000,), 100.0),
        (RandomK(k=10), (1000,), 1.0),
        (TopK(k=100, values=CrossPolytope(contraction=False)), (1000,), 10.0),
        (LowRank(rank=2, method="atomo"), (30, 40), math.sqrt(30)),
        (LowRank(rank=2), (30, 40), 1.0),
        (RotatedQuantizer(levels=2), (1000,), math.inf),
        (Sign(), (1000,), math.sqrt(1000)),
        (L1Sign(), (1000,), 1.0),
    ],
    ids=repr,
)
def test_forged_lengths_by_hand(compressor: Compressor, shape: tuple[int, ...], ratio: float) -> None:
    payload = forge(compressor, shape)
    compressor.check(payload)
    assert longest(compressor, payload) == pytest.approx(ratio, rel=1e-4)


@functools.cache
def _longest_forged(compressor: Compressor, shape: tuple[int, ...]) -> float:
    return longest(compressor, forge(compressor, shape))


@pytest.mark.parametrize("compressor", [c for c in ALL if not isinstance(getattr(c, "values", c), RotatedQuantizer)], ids=repr)
@given(seed=st.integers(0, 2**32 - 1), power=st.sampled_from([1, 5, 15]), upward=st.booleans())
def test_no_other_payload_is_longer_than_the_forged_one(compressor: Compressor, seed: int, power: int, upward: bool) -> None:
    shape = (8, 9) if compressor.wants_matrices else (72,)
    x = gaussian(72, torch.float64, seed).reshape(shape) ** power
    draws: Any = Upward() if upward else np.random.default_rng(seed)
    payload = compressor.compress(x, draws)
    assert longest(compressor, payload) <= _longest_forged(compressor, shape) * (1 + 1e-4)


def test_gains_by_hand() -> None:
    assert [gain(15.8, 0.64, rule=rule) for rule in RULES] == pytest.approx([15.8 / 0.64, 1 / 0.64, 1.0])
    assert [gain(64.0, 1.25, rule=rule) for rule in RULES] == pytest.approx([51.2, 1.0, 1.0])
    assert [gain(0.9, 0.3, rule=rule) for rule in RULES] == pytest.approx([3.0, 3.0, 1.0])  # never as long as the report
    assert [gain(math.inf, 0.5, rule=rule) for rule in RULES] == [math.inf, 2.0, 1.0]
    assert [gain(100.0, 100.0, rule=rule, embeds_norm=False) for rule in RULES] == [1.0, 1.0, 1.0]


@given(longest=st.floats(1e-3, 1e6), typical=st.floats(1e-3, 1e3))
def test_the_larger_norm_never_leaves_more(longest: float, typical: float) -> None:
    reported, larger = (gain(longest, typical, rule=rule) for rule in RULES[:2])
    assert larger <= max(1.0, 1.0 / typical) * (1 + 1e-12)
    assert larger <= max(1.0, reported) * (1 + 1e-12)


def test_a_typical_length_is_measured_alike_every_time() -> None:
    assert (
        typical_length(L1Sign(), (2000,))
        == typical_length(L1Sign(), (2000,))
        == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)
    )
    assert typical_length(RandomK(ratio=0.25), (2000,)) == pytest.approx(0.5, rel=0.05)


def test_the_table_has_the_catalogue() -> None:
    text = table()
    assert all(f"`{label(entry.configurations[0])}`" in text for entry in CATALOGUE.values())
    assert all(line.count("|") == 6 for line in text.splitlines())
    assert "| `Drive(unbiased_scale=True)` | 1.25 | 64 | 51 | 1 |" in text
    assert "| `TopK(ratio=0.01)` | 0.291 | 1 | 3.44 | 3.44 |" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1.0, 1.0, "loudest"), "rule must be one of reported, larger, compressed, got 'loudest'"),
        ((0.0, 1.0, "larger"), "longest must be positive, got 0.0"),
        ((1.0, math.inf, "larger"), "typical must be positive and finite, got inf"),
    ],
)
def test_bad_values_are_named(arguments: tuple[float, float, SortRule], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        gain(*arguments[:2], rule=arguments[2])
