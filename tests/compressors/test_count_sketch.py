"""A count sketch is the linear map that it says, unbiased within the variance that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_robustcomp.compressors import count_sketch
from flwr_robustcomp.compressors.count_sketch import CountSketch
from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.randomness import hashed_places

DRAWS = 2000


def matrix(sketch: CountSketch) -> np.ndarray:
    """Return S, shape (k, d), column by column."""
    return np.stack([sketch(column) for column in np.eye(sketch.d)], axis=1)


@given(d=st.integers(1, 60), size=st.integers(1, 80), seed=st.integers(0, 2**64 - 1))
def test_each_coordinate_has_one_bucket_and_one_sign(d: int, size: int, seed: int) -> None:
    s = matrix(CountSketch(d, size, seed))
    assert s.shape == (min(size, d), d)
    assert (np.abs(s).sum(axis=0) == 1).all() and set(np.unique(s)) <= {-1.0, 0.0, 1.0}
    x = np.random.default_rng(0).standard_normal(d)
    np.testing.assert_allclose(CountSketch(d, size, seed)(x), s @ x, atol=1e-12)


def test_inner_products_are_unbiased_within_the_promised_variance() -> None:
    rng = np.random.default_rng(0)
    d, size = 300, 32
    x, y = rng.standard_normal(d) + 0.5, rng.standard_normal(d) + 0.5  # without signs, means would add up in the buckets
    y[:20] += 2 * x[:20]
    x[0] = y[1] = 12.0  # a few coordinates have most of the length
    found = np.array([(sketch := CountSketch(d, size, seed))(x) @ sketch(y) for seed in range(DRAWS)])
    exact = ((x @ x) * (y @ y) - 2 * np.square(x * y).sum() + (x @ y) ** 2) / size
    assert abs(found.mean() - x @ y) < 5 * np.sqrt(exact / DRAWS)
    assert found.var() == pytest.approx(exact, rel=0.2)
    assert exact <= ((x @ x) * (y @ y) + (x @ y) ** 2) / size


def test_blocks_are_only_a_matter_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).standard_normal(1000)
    whole = CountSketch(1000, 64, 3)(x)
    monkeypatch.setattr(count_sketch, "_BLOCK", 77)
    np.testing.assert_allclose(CountSketch(1000, 64, 3)(x), whole, atol=1e-12)


def test_a_short_vector_is_its_own_sketch() -> None:
    x = np.arange(5, dtype=np.float32)
    kept = CountSketch(5, 5, 9)(x)
    assert kept.dtype == np.float64 and kept.tolist() == x.tolist()
    x[0] = 7
    assert kept[0] == 0  # a copy


def test_the_map_is_golden() -> None:
    """A checkpoint holds sums over it."""
    assert hashed_places(7, 8192, 6).tolist() == GOLDEN
    assert hashed_places(7, 8192, 2_100_000)[[0, 5, 2**20, 2_099_999]].tolist() == GOLDEN_LATER
    assert hashed_places(7, 8192, 3).dtype == np.uint16 and hashed_places(7, 2**17, 3).dtype == np.uint32


def test_places_are_uniform() -> None:
    counts = np.bincount(hashed_places(1, 16, 160_000), minlength=16)
    assert counts.size == 16 and np.square(counts - 10_000).sum() / 10_000 < 45  # chi squared, one in ten thousand


@pytest.mark.parametrize(
    ("given_", "named"), [((0, 8, 0), "d must be"), ((5, 0, 0), "size must be"), ((5, 8, -1), "seed must be")]
)
def test_bad_sizes_are_refused(given_: tuple[int, int, int], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        CountSketch(*given_)


GOLDEN = [3193, 137, 7379, 4775, 3706, 2043]
GOLDEN_LATER = [3193, 2043, 257, 3957]
