"""FLTrust against its dense definition, and its own guarantee against any number of liars."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.colluding_vectors import SHAPES, Colluder, rows_of
from benchmarks.parts.vectors import known
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.filters import Beside, FLTrust, Length, Norm, NormClipping, Root, Vectors, chain, reach_of

colluders = st.builds(
    Colluder,
    st.sampled_from(SHAPES),
    st.integers(-60, 60).map(lambda e: 10.0**e) | st.floats(0.1, 5.0),
    st.sampled_from([-1, 1]),
)


def dense(x: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Cao et al. 2021, equations 2 to 4, vector by vector."""
    length = np.linalg.norm(root)
    trust = [max(0.0, row @ root / (np.linalg.norm(row) * length)) for row in x]
    scaled = [row * length / np.linalg.norm(row) for row in x]
    total: np.ndarray = sum(t * row for t, row in zip(trust, scaled, strict=True)) / sum(trust)
    return total


@given(m=st.integers(1, 20), d=st.integers(1, 30), seed=st.integers(0, 200))
def test_it_is_the_definition(m: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal(d)
    x = np.concatenate([rng.standard_normal((m, d)) * rng.uniform(0.1, 10, (m, 1)), root[None] + 0.1])
    assert np.allclose(chain([FLTrust()], known(x, root)) @ x, dense(x, root))


@given(group=st.lists(colluders, min_size=9, max_size=18), d=st.integers(1, 30), seed=st.integers(0, 500))
def test_nine_of_ten_liars_choose_no_length_and_no_direction_against_the_root(group: list[Colluder], d: int, seed: int) -> None:
    x = rows_of("noise", len(group) // 9, d, group, seed)
    root = x[0] * 0.7
    outcome = chain([FLTrust()], known(x, root)) @ x
    length = float(np.linalg.norm(root))
    assert np.linalg.norm(outcome) <= length * (1 + 1e-9)
    assert outcome @ root > 0


@pytest.mark.parametrize("before", [[], [Norm(2)], [Length(2)], [NormClipping(2)]], ids=str)
def test_the_promise_of_a_chain_counts_the_root_as_honest(before: list[Norm]) -> None:
    """Short honest updates, a long root: no bound of an earlier filter holds for what leaves this one."""
    assert reach_of([*before, FLTrust(2)], 20) == reach_of([*before, FLTrust(15)], 40) == 1.0
    x = np.random.default_rng(0).standard_normal((20, 5)) * 1e-3 + np.eye(5)[0] * 1e-3
    root = np.eye(5)[0] * 7.0
    outcome = chain([*before, FLTrust(2)], known(x, root)) @ x
    assert np.linalg.norm(x, axis=1).max() < np.linalg.norm(outcome) <= 7.0


@pytest.mark.parametrize("length", [0.0, 1e-40, 1e-320])
def test_a_vector_too_short_to_scale_has_no_say(length: float) -> None:
    """Scaled to the root it would need a coefficient that overflows, and could end every round."""
    x = np.stack([np.array([1.0, 1.0]), np.array([length, 0.0])])
    assert chain([FLTrust()], known(x, np.array([1.0, 0.0])))[1] == 0


def test_nobody_to_trust_is_said_with_the_largest_cosine() -> None:
    x = np.array([[-1.0, 1.0], [-1.0, 0.0]])
    with pytest.raises(ConfigurationError, match=r"at least one update must point where .*, got none of 2: .* -0.707"):
        chain([FLTrust()], known(x, np.array([1.0, 0.0])))


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_a_root_without_a_direction_is_refused(norm: float) -> None:
    vectors = Vectors.of_gram(np.eye(2), Beside(root=lambda: Root(norm, np.ones(2))))
    with pytest.raises(ConfigurationError, match="norm of the root's update must be positive and finite"):
        chain([FLTrust()], vectors)


def test_it_works_behind_a_filter_that_mixes() -> None:
    x = np.random.default_rng(3).standard_normal((6, 4)) + 1
    root = np.ones(4)
    clipped = chain([NormClipping(1), FLTrust()], known(x, root)) @ x
    assert np.allclose(clipped, dense(x, root))  # it scales every vector anyway
