"""What a rule promises behind filters that leave more or fewer vectors, and that mix them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_filters import least
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import FILTERS, Vectors, bounds_of, chain_rows
from flwr_robustcomp.rules import RULES

CHAINS = [
    *("sign-guard", "flame", "norm", "spectral", "norm-clipping", "length+nearest-neighbor-mixing", "length+bucketing"),
    *("norm-clipping+nearest-neighbor-mixing", "nearest-neighbor-mixing+multi-krum", "nearest-neighbor-mixing+caf"),
]


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=100, deadline=None)
@given(
    names=st.sampled_from(CHAINS) | st.just("sign-guard"),
    trim=st.integers(1, 3),
    more=st.integers(0, 6),
    d=st.sampled_from([2, 3, 12, 40]),
    density=st.sampled_from([0.2, 0.5, 0.7, 0.9]),
    length=st.sampled_from([1.0, 0.5, 3.0, 90.0]),
    seed=st.integers(0, 10_000),
)
def test_no_rule_makes_more_of_what_filters_leave_than_it_promises(
    rule: str, names: str, trim: int, more: int, d: int, density: float, length: float, seed: int
) -> None:
    """Vectors that overlap in most of their coordinates: there a median is longer than any of them."""
    filters = [FILTERS[name](trim) for name in names.split("+")]
    m, own = least(filters, trim) + more, RULES[rule]()
    masks = np.random.default_rng(seed).random((m, d)) < density
    rows = masks / np.sqrt(np.maximum(masks.sum(axis=1, keepdims=True), 1))
    rows[m - trim :] *= length
    try:
        left = chain_rows(filters, Vectors.of_rows(rows)) @ rows
    except ConfigurationError:  # too few for the next filter
        return
    cut = own.cut(len(left), trim)
    outcome = np.sort(left, axis=0)[cut : len(left) - cut].mean(axis=0)
    promise, longest = own.reach(bounds_of(filters, m), trim), np.linalg.norm(rows[: m - trim], axis=1).max()
    assert np.linalg.norm(outcome) <= promise * longest * (1 + 1e-9)


def test_a_median_of_three_is_longer_than_they_are() -> None:
    rows = np.sqrt(0.5) * np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    filters = [FILTERS["sign-guard"](1)]
    assert len(chain_rows(filters, Vectors.of_rows(rows))) == 3
    length = float(np.linalg.norm(np.median(rows, axis=0)))
    assert 1.2 < length <= RULES["median"]().reach(bounds_of(filters, 3), 1) == math.sqrt(2)
