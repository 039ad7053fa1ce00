"""Filters on Gram matrices whose last bits are another processor's: the same vectors kept, the same outcome to rounding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.parts.vectors import known
from flwr_robustcomp.filters import Filter, NearestNeighborMixing, Spectral, Vectors, chain
from tests.filters.test_filter_contract import ALL, vectors
from tests.machines.doubles import other_last_bits, with_other_eigenvectors

Matrix = npt.NDArray[np.float64]

every = pytest.mark.parametrize("rule", ALL, ids=repr)
KEEPS = [rule for rule in ALL if rule.name in ("multi-krum", "norm", "length", "spectral")]


def elsewhere(gram: Matrix, seed: int = 0) -> Matrix:
    """Return a Gram matrix as other kernels make it: symmetric, with other last bits."""
    return np.asarray(np.tril(other_last_bits(gram, seed)) + np.tril(other_last_bits(gram, seed), -1).T)


def with_colluders(m: int, d: int, seed: int) -> Matrix:
    """Return m vectors, two of them the same and far away."""
    x = vectors(m, d, seed)
    x[:2] = 3 * np.sqrt(d) * np.eye(d)[0]
    return x


@pytest.mark.parametrize("rule", KEEPS, ids=repr)
@given(m=st.integers(9, 30), d=st.integers(20, 60), seed=st.integers(0, 1000))
def test_the_same_vectors_are_kept(rule: Filter, m: int, d: int, seed: int) -> None:
    x = with_colluders(m, d, seed)
    gram = x @ x.T
    here, there = (chain([rule], Vectors.of_gram(one)) > 0 for one in (gram, elsewhere(gram, seed)))
    # The two colluders are one vector twice: which of them goes is no difference.
    assert here[2:].tolist() == there[2:].tolist() and here[:2].sum() == there[:2].sum()


@every
@given(m=st.integers(9, 30), d=st.integers(20, 60), seed=st.integers(0, 1000))
def test_the_outcome_is_the_same_to_rounding(rule: Filter, m: int, d: int, seed: int) -> None:
    x = with_colluders(m, d, seed)
    gram = x @ x.T
    here, there = (chain([rule], known(x, gram=one)) @ x for one in (gram, elsewhere(gram, seed)))
    # Distances are differences of inner products: their relative error is that of the products times ||x||^2 / distance^2.
    assert np.linalg.norm(here - there) <= 1e-9 * np.linalg.norm(x, axis=1).max()


@every
@pytest.mark.parametrize("seed", range(5))
def test_equal_vectors_are_their_own_aggregate_though_rounding_tells_them_apart(rule: Filter, seed: int) -> None:
    if getattr(rule, "radius", None) is not None:
        return  # a radius has the vectors' unit
    x = np.tile(vectors(1, 30, seed), (20, 1))
    weights = chain([rule], known(x, gram=elsewhere(x @ x.T, seed)))
    assert np.allclose(weights @ x, x[0], rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_alone_is_no_direction_that_stands_out(seed: int) -> None:
    x = np.tile(vectors(1, 30, seed), (20, 1))
    weights = chain([Spectral(trim=3, slack=None)], Vectors.of_gram(elsewhere(x @ x.T, seed)))
    assert (weights > 0).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("slack", [3.0, None])
def test_eigenvectors_of_another_sign_and_rounding_drop_the_same(
    seed: int, slack: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = with_colluders(20, 40, seed)
    here = chain([Spectral(trim=4, slack=slack)], Vectors.of_gram(x @ x.T))
    calls = with_other_eigenvectors(monkeypatch)
    there = chain([Spectral(trim=4, slack=slack)], Vectors.of_gram(x @ x.T))
    assert calls and (here > 0).tolist() == (there > 0).tolist()
    assert here[0] == here[1] == 0


@given(m=st.integers(9, 30), seed=st.integers(0, 1000))
def test_the_gram_matrix_of_mixtures_is_symmetric(m: int, seed: int) -> None:
    x = vectors(m, 40, seed)
    first = Vectors.of_gram(x @ x.T)
    gram = first.combined(NearestNeighborMixing(trim=2).combine(first, 2)).gram
    assert np.array_equal(gram, gram.T)
