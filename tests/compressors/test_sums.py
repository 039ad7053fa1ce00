"""Sums over rows against exact ones, whatever the lengths and sizes of entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from flwr_robustcomp.compressors.sums import magnitudes, squares
from tests.compressors.samples import rng

Sum = Callable[[npt.NDArray[np.floating]], npt.NDArray[np.float64]]
both = pytest.mark.parametrize(("of", "power"), [(magnitudes, 1), (squares, 2)], ids=["magnitudes", "squares"])


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 63, 64, 65, 1000, (1 << 15) - 1, (1 << 15) + 64, 100_001])
@pytest.mark.parametrize("scale", [1e-25, 1e-15, 1.0, 1e15, 1e25])
def test_they_are_the_sums(of: Sum, power: int, dtype: type[np.floating], d: int, scale: float) -> None:
    rows = (rng(d).standard_normal((2, d)) * scale).astype(dtype)
    wanted = [math.fsum(abs(float(v)) ** power for v in row) for row in rows]
    assert of(rows) == pytest.approx(wanted, rel=5e-7 if dtype == np.float32 else 1e-13)


@both
@given(
    rows=npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, max_side=200), elements=st.floats(width=32)),
)
def test_any_entries(of: Sum, power: int, rows: npt.NDArray[np.float32]) -> None:
    found = of(rows)
    assert np.isfinite(found).tolist() == np.isfinite(rows).all(axis=1).tolist()
    for total, row in zip(found, rows, strict=True):
        if math.isfinite(total):
            wanted = sum(abs(Fraction(float(v))) ** power for v in row)
            assert total == pytest.approx(float(wanted), rel=64 * 2**-24, abs=5e-324)  # 63 roundings at worst


@both
@pytest.mark.parametrize("d", [5, 64, 40_000])
def test_a_rows_sum_is_its_own(of: Sum, power: int, d: int) -> None:
    rows = rng(0).standard_normal((7, d)).astype(np.float32)
    rows[3] *= 1e30
    assert of(rows).tolist() == [of(row[None])[0] for row in rows]
