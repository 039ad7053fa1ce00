"""The payloads of a sender of its own bytes: as long as a decoder lets them be for the norm that it believes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors import (
    QSGD,
    Compressor,
    CrossPolytope,
    Drive,
    NonZeros,
    Payload,
    RotatedQuantizer,
    TernGrad,
    TopK,
)
from flwr_robustcomp.compressors.buckets import in_bucket
from flwr_robustcomp.compressors.rotation import largest_block, unrotate

__all__ = ["Upward", "forge", "longest"]

_TINY = 1e-7


class Upward:
    """A generator whose draws the sender chose: everything is rounded up that can be."""

    def __init__(self) -> None:
        self._honest = np.random.default_rng(0)

    def integers(self, low: int, high: int, size: Any = (), dtype: Any = np.int64) -> Any:
        """Return zeros: every bit that is drawn falls below its chance."""
        return np.zeros(size, dtype)

    def random(self, size: Any = (), dtype: Any = np.float64) -> Any:
        """Return zeros."""
        return np.zeros(size, dtype)

    def standard_normal(self, size: Any) -> Any:
        """Return an honest draw; a start of `LowRank` decides nothing here."""
        return self._honest.standard_normal(size)


def forge(compressor: Compressor, shape: Sequence[int]) -> Payload:
    """Return a payload, float64, that `check` accepts and that is as long as can be for the smallest norm believed of it.

    Notes
    -----
    Every payload that `check` accepts is Q(x) for some x and some draws, so both are chosen here, by compressor:

    - qsgd: levels are l_i = a_i + 1 with sum a_i^2 < s^2, the announced norm is that of x. sum l_i^2 = sum a_i^2 + 2 sum a_i
      + d is largest where the a_i are as equal as integers can be.
    - tern-grad: no symbol is zero; the peak is believed to be all of x.
    - cross-polytope: one vertex in all draws; ||x||_1 / sqrt(d) is believed.
    - drive with the unbiased scale: the largest block alone, and a spike in the rotated basis is believed.
    - rotated-quantizer: all coordinates but the extremes at one level, and believed to lie at the level before it.
    - low-rank by "atomo": one singular value; believed to be spread evenly over all of them.
    - the others, and what `TopK` keeps: ||Q(x)|| or, of random-k, the kept entries are the smallest norm believed.
    """
    rng = cast(np.random.Generator, Upward())
    candidates = [compressor.compress(x, rng) for x in _inputs(compressor, tuple(shape))]
    for payload in candidates:
        compressor.check(payload)
    return max(candidates, key=lambda payload: longest(compressor, payload))


def longest(compressor: Compressor, payload: Payload) -> float:
    """Return ||Q'||_2 of a payload in units of the smallest ||x||_2 believed of it; for C_normless ||Q'||_2 itself."""
    length, believed = compressor.norm(payload), compressor.norm_bounds(payload)[0]
    if not compressor.embeds_norm or length == 0:
        return length
    return length / believed if believed > 0 else math.inf


def _inputs(compressor: Compressor, shape: tuple[int, ...]) -> list[Tensor]:
    d = math.prod(shape)
    flat = torch.ones(shape, dtype=torch.float64)
    match compressor:
        case TopK():
            k = compressor.kept(d)
            return [torch.cat([x, torch.zeros(d - k)]).reshape(shape) for x in _inputs(compressor.values, (k,))]
        case QSGD():
            return [_in_one_bucket(_just_above(compressor.levels, in_bucket(d, compressor.bucket)), shape)]
        case TernGrad():
            return [_in_one_bucket(torch.ones(in_bucket(d, compressor.bucket), dtype=torch.float64), shape)]
        case NonZeros():
            return _inputs(compressor.values, shape)
        case CrossPolytope():
            return [torch.eye(1, d, dtype=torch.float64).reshape(shape)]
        case Drive(rotate=True):
            y = np.zeros(d)
            y[: largest_block(d)] = 1.0
            return [_rotated_back(compressor, y).reshape(shape)]
        case RotatedQuantizer():
            return [_rotated_back(compressor, y).reshape(shape) for y in _between_extremes(compressor.levels, d)]
    return [flat]


def _in_one_bucket(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return x in the first bucket, with zeros in the others: no bucket gains more than the largest."""
    return torch.cat([x, x.new_zeros(math.prod(shape) - x.numel())]).reshape(shape)


def _just_above(levels: int, d: int) -> Tensor:
    """Return x with s |x_i| / ||x|| just above a_i, sum a_i^2 < s^2."""
    budget = levels**2 - 1
    base = min(math.isqrt(budget // d), levels - 1)
    more = 0 if base == levels - 1 else min(d, (budget - d * base**2) // (2 * base + 1))
    below = np.full(d, float(base))
    below[:more] += 1
    return torch.from_numpy(below + _TINY)


def _between_extremes(levels: int, d: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Return blocks of extremes -a and 1 with all other coordinates just above one level."""
    found = []
    size = largest_block(d)
    for a in np.linspace(0, 1, 21):
        ladder = np.linspace(-a, 1, levels)
        for level in ladder[:-1][np.argsort(np.abs(ladder[:-1]))[:6]]:  # those near zero gain most
            y = np.zeros(d)
            y[:size] = level + _TINY
            y[0], y[size - 1] = 1.0, -a
            found.append(y)
    return found


def _rotated_back(compressor: Drive | RotatedQuantizer, y: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
    return torch.from_numpy(unrotate(y, compressor.seed, compressor.round_))
