"""FoolsGold against its definition, written entry by entry; what it finds, and what it is known to get wrong."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Beside, FoolsGold, Vectors, reach_of

Rows = npt.NDArray[np.float64]


def _weights(sums: Rows, confidence: float = 1.0) -> Rows:
    vectors = Vectors.of_gram(np.eye(len(sums)), Beside(history=lambda: sums @ sums.T))
    coefficients = FoolsGold(confidence=confidence).combine(vectors, 0)
    weights = np.diag(coefficients)
    assert np.array_equal(coefficients, np.diag(weights))
    return weights


def _definition(sums: Rows, confidence: float) -> list[float]:
    """Algorithm 1 of Fung et al. 2020, with the conventions that `FoolsGold` states for what it leaves open."""
    m = len(sums)

    def cosine(a: Rows, b: Rows) -> float:
        lengths = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
        return max(0.0, sum(v * w for v, w in zip(a, b, strict=True)) / lengths) if lengths else 0.0

    c = [[cosine(sums[i], sums[j]) if i != j else 0.0 for j in range(m)] for i in range(m)]
    v = [max(row) for row in c]
    alphas = []
    for i in range(m):
        pardoned = [c[i][j] * v[i] / v[j] if v[j] > v[i] else c[i][j] for j in range(m)]
        alphas.append(1 - max(pardoned))
    largest = max(alphas)
    if largest <= 1e-12:
        return [1.0] * m
    weights = []
    for alpha in alphas:
        share = alpha / largest
        logit = -math.inf if share <= 1e-12 else math.inf if share == 1 else math.log(share / (1 - share))
        weights.append(min(1.0, max(0.0, confidence * (logit + 0.5))))
    return weights


@given(
    m=st.integers(1, 12),
    d=st.integers(1, 12),
    sybils=st.integers(0, 6),
    noise=st.sampled_from([0.0, 1e-3, 0.3]),
    confidence=st.sampled_from([0.5, 1.0, 2.0]),
    seed=st.integers(0, 1000),
)
def test_it_is_the_definition(m: int, d: int, sybils: int, noise: float, confidence: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.standard_normal((m, d)) + rng.choice([0.0, 1.0])
    sums[: min(sybils, m)] = sums[0] + noise * rng.standard_normal((min(sybils, m), d))
    if seed % 5 == 0:
        sums[-1] = 0
    np.testing.assert_allclose(_weights(sums, confidence), _definition(sums, confidence), atol=1e-6)


def test_sybils_are_found_though_they_are_most_of_all() -> None:
    rng = np.random.default_rng(0)
    sums = rng.standard_normal((20, 100))
    sums[:12] = rng.standard_normal(100) + 0.01 * rng.standard_normal((12, 100))
    weights = _weights(sums)
    assert (weights[:12] == 0).all() and (weights[12:] == 1).all()


def test_one_liar_alone_is_not_found_and_honest_nodes_that_are_alike_pay() -> None:
    """The weakness that its page admits."""
    rng = np.random.default_rng(1)
    sums = 1.0 + 0.3 * rng.standard_normal((10, 200))
    sums[0] = -sums[0]
    weights = _weights(sums)
    assert weights[0] == 1
    assert weights[1:].max() == 0


def test_nodes_that_are_all_the_same_have_full_weight() -> None:
    assert _weights(np.tile([1.0, 2.0, 3.0], (5, 1))).tolist() == [1.0] * 5
    assert _weights(np.ones((1, 3))).tolist() == [1.0]


def test_it_promises_nothing() -> None:
    assert reach_of([FoolsGold(2)], 20) == math.inf


@pytest.mark.parametrize("confidence", [0.0, -1.0, math.inf, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="confidence must be positive and finite"):
        FoolsGold(confidence=confidence)
