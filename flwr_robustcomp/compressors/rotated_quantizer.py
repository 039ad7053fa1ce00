"""Stochastic k-level quantisation in a rotated basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Scalars
from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.rotated import Rotated
from flwr_robustcomp.compressors.rotation import largest_block
from flwr_robustcomp.compressors.values import values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError, require

__all__ = ["RotatedQuantizer"]


@dataclass(frozen=True)
class RotatedQuantizer(Rotated):
    """Rotate, then round each coordinate at random to one of k levels between its block's extremes (Suresh et al. 2017).

    Parameters
    ----------
    levels : int
        k, in [2, 2**16].
    contraction : bool
        Divide each block by 1 + omega. Without it Q is unbiased; with it Q is a contraction for every d and k.
    seed : int
        Of the rotation, in [0, 2**64), equal on all nodes.

    Notes
    -----
    Within a block x of B coordinates let y = R x and s = max y - min y. Levels are s / (k - 1) apart, so rounding between
    neighbours without bias has variance at most s^2 / (4 (k - 1)^2) a coordinate, and E||Q(x) - x||^2 <= B s^2 / (4 (k - 1)^2).

    - For every rotation s^2 <= 2 (max^2 + min^2) <= 2 ||x||^2, hence omega <= B / (2 (k - 1)^2).
    - In expectation over the rotation: y_j is a sum of +-x_i / sqrt(B) with random signs, P(y_j > t) <= exp(-t^2 B / (2
      ||x||^2)), so the positive part of the maximum has E max^2 <= (2 ||x||^2 / B) (ln B + 1) (integrate min(1, B exp(-u B /
      (2 ||x||^2)))), the negative part of the minimum likewise, E s^2 <= (8 ||x||^2 / B) (ln B + 1), hence omega <= 2 (ln B +
      1) / (k - 1)^2.

    The smaller one counts (`omega`); a block of one coordinate is exact. So rotation takes a factor of about B / (4 ln B) off
    the variance, and omega no longer grows with d at all. delta = 1 - omega where that is positive, or 1 / (1 + omega) for the
    contraction, as for `QSGD`.

    Wire: seed, round, k and the form in one word; then each block's extremes in working precision (float64 for float64,
    float32 otherwise), then d codes of ceil(log2 k) bits. C_norm. The decoder enforces the configured seed, form and k, the
    current round, zero padding, finite ordered extremes, codes below k that are zero in a constant block and reach both 0 and
    k - 1 in any other, as they do where a coordinate is the extreme, and entries that do not overflow. Every such payload is
    Q of what its codes stand for, which rounding leaves alone.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from flwr_robustcomp import RotatedQuantizer
    >>> Q = RotatedQuantizer(levels=16)
    >>> Q.measured_delta(torch.arange(1000.0), np.random.default_rng(0)) > 0.9
    True
    """

    levels: int = 16
    contraction: bool = True

    name: ClassVar[str] = "rotated-quantizer"
    header: ClassVar[str] = "<QII"
    randomized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.levels, int) and 2 <= self.levels <= 2**16, "levels", self.levels, "an integer in [2, 2**16]")

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> RotatedQuantizer:
        """Read the seed, the round, k and the form."""
        seed, round_, word = map(int, scalars)
        return cls(levels=word >> 1, contraction=bool(word & 1), seed=seed).for_round(round_)

    @property
    def unbiased(self) -> bool:
        """Whether the form without division is chosen; it is unbiased for every rotation."""
        return not self.contraction

    def omega(self, d: int) -> float:
        """Return the variance factor of the unbiased form, in expectation over the rotation: that of the largest block."""
        return self._omega(largest_block(d))

    def delta(self, d: int) -> float | None:
        """Return 1/(1 + omega), or 1 - omega for the unbiased form where positive; in expectation."""
        omega = self.omega(d)
        if self.contraction:
            return 1 / (1 + omega)
        return 1 - omega if omega < 1 else None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of two extremes a block and of d codes of ceil(log2 k) bits."""
        return self._extremes_size(d, dtype) + packed_size(d, self._width)

    def check(self, payload: Payload) -> None:
        """Ask for the configured header, zero padding, ordered extremes, and codes that reach them."""
        self._check_header(payload, self._word, "2 levels + contraction")
        if not padding_is_zero(payload.body, payload.size * self._width):
            raise WireError("padding bits must be zero")
        extremes = self._extremes(payload)
        low, high = extremes.T
        if not np.isfinite(extremes).all() or (low > high).any() or (np.signbit(extremes) & (extremes == 0)).any():
            raise WireError("extremes must be finite, ordered, and not negative zero")
        codes, starts = self._codes(payload), self._starts(payload.size)
        least, most = np.minimum.reduceat(codes, starts), np.maximum.reduceat(codes, starts)
        if least.any() or (most != np.where(low < high, self.levels - 1, 0)).any():
            raise WireError(f"codes must lie in [0, {self.levels}) and reach both ends where a block is not constant")
        sizes = np.array(self._sizes(payload.size), np.float64)
        with np.errstate(over="ignore"):  # an infinite bound is out of range, too
            largest = float((np.sqrt(sizes) * np.abs(extremes).max(axis=1)).max())
        self._check_range(payload, largest)

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q; for q = 2 without rotating back."""
        if order != 2:
            return super().norm(payload, order)
        return array_norm(self._rotated(payload))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the bounds that follow from every y_j lying between the levels next to its own, and between the extremes."""
        d = payload.size
        sizes = self._sizes(d)
        low, high = (np.repeat(side.astype(np.float64), sizes) for side in self._extremes(payload).T)
        step, codes = np.repeat(self._ladder(payload)[1], sizes), self._codes(payload)
        below, above = np.maximum(low + (codes - 1.0) * step, low), np.minimum(low + (codes + 1.0) * step, high)
        least = array_norm(np.where((below <= 0) & (above >= 0), 0.0, np.minimum(np.abs(below), np.abs(above))))
        most = array_norm(np.maximum(np.abs(below), np.abs(above)))
        root = math.sqrt(d)
        return {1: (least, most * root), 2: (least, most), math.inf: (least / root, most)}[order]

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add levels in the rotated basis, and rotate back once."""
        if not payloads:
            return
        total = np.zeros(out.numel(), out.numpy().dtype)
        for payload, weight in zip(payloads, weights, strict=True):
            y = self._rotated(payload).astype(total.dtype, copy=False)
            y *= weight
            total += y
        out += torch.from_numpy(self._rotate_out(total))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Round each block of the rotated vector to a grid between its extremes, at random."""
        work = working_dtype(flat.dtype)
        largest = torch.finfo(work).max
        y = np.clip(self._rotate_in(flat), -largest, largest)
        starts, sizes = self._starts(y.size), self._sizes(y.size)
        # Extremes go out in working precision; what was rotated in a wider one is rounded first, so that they are attained.
        y = y.astype(np.float64 if work == torch.float64 else np.float32).astype(y.dtype) + 0.0  # + 0.0: no negative zero
        low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
        with np.errstate(over="ignore"):
            span = np.where(high > low, high - low, 1.0).astype(y.dtype)
        place = (y - np.repeat(low, sizes)) / np.repeat(span, sizes) * (self.levels - 1)
        codes = place.astype(np.uint32)
        codes += cast(np.random.Generator, rng).random(y.size, dtype=np.float32) < place - codes
        extremes = torch.from_numpy(np.stack([low, high], axis=1)).to(work)  # (blocks, 2)
        body = values_to_bytes(extremes.reshape(-1)) + pack_uints(codes, self._width)
        return (self.seed, self.round_, self._word), body

    def _rotated(self, payload: Payload) -> npt.NDArray[np.floating]:
        sizes = self._sizes(payload.size)
        shrink = np.array([1.0 + self._omega(size) for size in sizes]) if self.contraction else np.ones(len(sizes))
        low, step = self._ladder(payload)
        y: npt.NDArray[np.floating] = self._codes(payload).astype(low.dtype)
        y *= np.repeat((step / shrink).astype(low.dtype), sizes)
        y += np.repeat((low / shrink).astype(low.dtype), sizes)
        return y

    def _ladder(self, payload: Payload) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.float64]]:
        """Return the lowest level of each block and the distance of two, each of shape (blocks,)."""
        low, high = self._extremes(payload).T
        return low, (high.astype(np.float64) - low) / (self.levels - 1)

    def _extremes_size(self, d: int, dtype: torch.dtype) -> int:
        return 2 * len(self._sizes(d)) * working_dtype(dtype).itemsize

    def _extremes(self, payload: Payload) -> npt.NDArray[np.floating]:
        """Return least and largest y of each block, shape (blocks, 2)."""
        packed = payload.body[: self._extremes_size(payload.size, payload.dtype)]
        extremes: npt.NDArray[np.floating] = values_from_bytes(packed, working_dtype(payload.dtype)).numpy()
        return extremes.reshape(-1, 2)

    def _codes(self, payload: Payload) -> npt.NDArray[np.uint32]:
        return unpack_uints(payload.body[self._extremes_size(payload.size, payload.dtype) :], payload.size, self._width)

    def _omega(self, size: int) -> float:
        return 0.0 if size == 1 else min(size / 2, 2 * (math.log(size) + 1)) / (self.levels - 1) ** 2

    @property
    def _width(self) -> int:
        return (self.levels - 1).bit_length()

    @property
    def _word(self) -> int:
        return self.levels << 1 | self.contraction
