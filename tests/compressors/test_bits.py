"""Sums of packed signs over more bitmaps than are laid side by side at a time."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_robustcomp.compressors.bits import _ROWS, accumulate_signs, pack_bits


@pytest.mark.parametrize("count", [1, _ROWS - 1, _ROWS, _ROWS + 1, 2 * _ROWS + 7])
def test_every_bitmap_counts_once(count: int) -> None:
    rng = np.random.default_rng(count)
    masks, weights = rng.integers(0, 2, (count, 1100), dtype=np.bool_), rng.standard_normal(count)
    out = np.ones(1100)
    accumulate_signs(out, [pack_bits(mask) for mask in masks], weights)
    assert np.allclose(out, 1 + weights @ np.where(masks, 1.0, -1.0), rtol=0, atol=1e-9)
