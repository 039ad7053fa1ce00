"""The Hadamard rotation: orthogonal for every d, the same on every node of a round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors.rotation import MAX_BLOCK, block_sizes, hadamard, largest_block, rotate, unrotate
from tests.compressors.samples import rng

sizes = st.one_of(st.integers(1, 300), st.integers(4090, 4100), st.integers(8190, 9000))


def _dense(n: int) -> np.ndarray:
    """Sylvester's construction, [[H, H], [H, -H]]."""
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@pytest.mark.parametrize("n", [1, 2, 8, 32, 1024, 4096])
def test_the_fast_transform_is_the_dense_matrix(n: int) -> None:
    x = rng().standard_normal((3, n))
    assert np.allclose(hadamard(x), x @ _dense(n) / np.sqrt(n), atol=1e-12)


@given(d=sizes)
def test_blocks_are_descending_powers_of_two_that_tile_the_vector(d: int) -> None:
    found = block_sizes(d)
    assert sum(found) == d and max(found) == largest_block(d) <= MAX_BLOCK
    assert all(size & (size - 1) == 0 for size in found)
    below = [size for size in found if size < MAX_BLOCK]
    assert below == sorted(set(below), reverse=True) and list(found) == sorted(found, reverse=True)


@given(d=sizes, seed=st.integers(0, 2**64 - 1), round_=st.integers(0, 2**32 - 1))
def test_the_inverse_and_the_norm(d: int, seed: int, round_: int) -> None:
    x = rng(d).standard_normal(d)
    y = rotate(x, seed, round_)
    assert np.allclose(unrotate(y, seed, round_), x, atol=1e-12)
    assert np.linalg.norm(y) == pytest.approx(np.linalg.norm(x), rel=1e-12)


@pytest.mark.parametrize("d", [1, 6, 77])
def test_it_is_an_orthogonal_matrix(d: int) -> None:
    matrix = np.stack([rotate(row, 3, 4) for row in np.eye(d)])
    assert np.allclose(matrix @ matrix.T, np.eye(d), atol=1e-12)


def test_each_round_and_seed_rotates_in_its_own_way_and_comes_back_to_it() -> None:
    x = rng().standard_normal(64)
    first = rotate(x, 0, 1)
    assert not np.allclose(first, rotate(x, 0, 2)) and not np.allclose(first, rotate(x, 1, 1))
    assert np.array_equal(first, rotate(x, 0, 1))


def test_a_spike_is_spread_over_its_block() -> None:
    x = np.zeros(4096)
    x[17] = 64.0
    assert np.array_equal(np.abs(rotate(x, 0, 0)), np.ones(4096))


def test_single_precision_stays_single_and_near_the_double() -> None:
    x = rng().standard_normal(5000)
    y = rotate(x.astype(np.float32), 1, 1)
    assert y.dtype == np.float32 and np.allclose(y, rotate(x, 1, 1), atol=1e-5)
