"""Generators are functions of (seed, round, partition, purpose), and positions of a seed alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.randomness import distinct_positions, generator, integer_gaussians, random_signs


def test_a_golden_stream() -> None:
    assert generator(7, "compress", round_=3, partition=5).integers(0, 10**6, 3).tolist() == [58693, 487813, 481575]


def test_each_argument_gives_another_stream() -> None:
    keys = list(itertools.product((0, 1), ("a", "b"), (0, 1), (0, 1)))
    first = {tuple(generator(s, p, round_=r, partition=i).integers(0, 2**62, 2).tolist()) for s, p, r, i in keys}
    assert len(first) == len(keys)


@given(seed=st.integers(0, 2**64 - 1), d=st.integers(1, 300), share=st.floats(0, 1))
def test_positions_are_distinct_ascending_and_repeatable(seed: int, d: int, share: float) -> None:
    k = max(1, round(share * d))
    positions = distinct_positions(seed, k, d)
    assert positions.shape == (k,) and bool((np.diff(positions) > 0).all())
    assert 0 <= positions[0] and positions[-1] < d
    assert (positions == distinct_positions(seed, k, d)).all()
    assert set(distinct_positions(seed, max(1, k - 1), d)) <= set(positions.tolist())


def _splitmix64(seed: int, d: int) -> list[int]:
    """Steele, Lea and Flood's splitmix64, as plain integers."""
    keys, mask = [], 2**64 - 1
    for i in range(1, d + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        keys.append(z ^ (z >> 31))
    return keys


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_positions_follow_the_documented_keys(seed: int) -> None:
    keys = _splitmix64(seed, 50)
    assert distinct_positions(seed, 9, 50).tolist() == sorted(sorted(range(50), key=keys.__getitem__)[:9])


def test_splitmix64_is_the_published_one() -> None:
    # The first outputs for seed 1234567, from the reference implementation.
    assert _splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(("seed", "round_"), [(0, 0), (7, 3), (2**64 - 1, 2**32 - 1)])
def test_signs_follow_the_documented_rule(seed: int, round_: int) -> None:
    own = _splitmix64(seed, 1)[0] if round_ == 0 else _splitmix64((seed + round_ * 0x9E3779B97F4A7C15) % 2**64, 1)[0]
    words = _splitmix64(own, 3)
    wanted = [1 if words[j // 64] >> j % 64 & 1 else -1 for j in range(150)]
    assert random_signs(seed, round_, 150).tolist() == wanted
    assert random_signs(seed, round_, 1).tolist() == wanted[:1]


def test_signs_are_fair_and_change_with_seed_and_round() -> None:
    drawn = [random_signs(seed, round_, 4096).astype(int) for seed in range(3) for round_ in range(3)]
    for i, one in enumerate(drawn):
        assert abs(one.sum()) < 4 * 64
        assert all(abs(one @ other) < 4 * 64 for other in drawn[:i])


def test_integer_gaussians_follow_the_documented_rule() -> None:
    wanted = [2 * sum(key >> 16 * i & 0xFFFF for i in range(4)) - 262139 for key in _splitmix64(5, 40)]
    assert integer_gaussians(5, 40).tolist() == wanted
    many = integer_gaussians(1, 50_000) / 2 / (65536 / np.sqrt(3))  # the deviation of the sum of four uniform fields
    assert abs(many.mean()) < 4 / np.sqrt(50_000) and abs(many.std() - 1) < 0.01
    assert (integer_gaussians(2, 50_000) % 2 == 1).all()
