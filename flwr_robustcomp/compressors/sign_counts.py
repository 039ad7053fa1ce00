"""How many entries of a packed vector are negative, zero and positive, counted on its bits where it has them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors.bits import count_bits
from flwr_robustcomp.compressors.entropy import histogram
from flwr_robustcomp.compressors.positions import Coding
from flwr_robustcomp.compressors.ternary import bitmaps_of

__all__ = ["SignCounts", "among_zeros", "bitmap_counts", "dense_counts", "ternary_counts"]

SignCounts = tuple[int, int, int]
"""Of negative entries, of zeros of either sign, and of positive ones."""


def dense_counts(values: Tensor) -> SignCounts:
    """Return the counts of a vector, shape (d,), of finite numbers."""
    positive, some = int((values > 0).sum()), int(torch.count_nonzero(values))
    return some - positive, values.numel() - some, positive


def bitmap_counts(bitmap: bytes, d: int) -> SignCounts:
    """Return the counts of d packed signs, bit 1 for +1 and 0 for -1, with zero padding."""
    positive = count_bits(bitmap)
    return d - positive, 0, positive


def ternary_counts(symbols: bytes, d: int, coding: Coding) -> SignCounts:
    """Return the counts of what `ternary.write_ternary` made, from the bits or from the counts that the coder needs."""
    if (bitmaps := bitmaps_of(symbols, d, coding)) is not None:
        positive, negative = map(count_bits, bitmaps)
        return negative, d - positive - negative, positive
    low, counts, _ = histogram(symbols[1:], d, 3)
    negative, zero, positive = np.pad(counts, (low, 3 - low - counts.size)).tolist()
    return negative, zero, positive


def among_zeros(counts: SignCounts, d: int) -> SignCounts:
    """Return the counts of d entries of which these are some and the others are zero."""
    negative, _, positive = counts
    return negative, d - negative - positive, positive
