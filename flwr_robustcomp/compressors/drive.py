"""DRIVE: one bit a coordinate in a rotated basis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Scalars
from flwr_robustcomp.compressors.bits import accumulate_block_signs, pack_bits, packed_size, padding_is_zero, unpack_bits
from flwr_robustcomp.compressors.columns import Columns, Signs
from flwr_robustcomp.compressors.dots import sign_dots
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.scaled_blocks import ScaledBlocks
from flwr_robustcomp.compressors.sign_block_products import sign_block_products
from flwr_robustcomp.compressors.values import as_numpy, values_to_bytes
from flwr_robustcomp.errors import WireError

__all__ = ["Drive"]


@dataclass(frozen=True)
class Drive(ScaledBlocks):
    """Rotate, keep the sign of each coordinate and one scale for each block of the rotation (Vargaftik et al. 2021).

    Parameters
    ----------
    rotate : bool
        Without rotation the whole vector is one block, and the default scale makes this `L1Sign`.
    unbiased_scale : bool
        The scale of DRIVE's unbiased form in place of the one of least error.
    seed : int
        Of the rotation, in [0, 2**64), equal on all nodes.

    Notes
    -----
    For a block x of B coordinates with y = R x, Q(x) = R^T (c sign(y)), and ||Q(x) - x||^2 = ||x||^2 - 2 c ||y||_1 + c^2 B.

    *Least error:* c = ||y||_1 / B leaves ||x||^2 - ||y||_1^2 / B, so delta = ||y||_1^2 / (B ||x||^2), and over the blocks the
    errors add up. For every x that is at least 1/2 in expectation over the signs: y_j = sum_i +-s_i x_i / sqrt(B) is a
    Rademacher sum, so E|y_j| >= ||x|| / sqrt(2 B) (Khintchine's inequality with Szarek's constant, 1976), E||y||_1 >=
    sqrt(B/2) ||x||, and by Jensen E||y||_1^2 >= B ||x||^2 / 2. For large B and no dominant entry, y is near Gaussian and
    delta near 2/pi. A scaled sign without rotation is only sure of 1/d.

    *Unbiased scale:* c = ||x||^2 / ||y||_1 makes <Q(x), x> = ||x||^2, and with a uniformly random rotation E Q(x) = x
    (Vargaftik et al. 2021, Theorem 3). That is not so with a Hadamard rotation: for B = 2 and x = (2, 1), y = (+-2 +- 1, +-2
    -+ 1) / sqrt(2) always has the signs of the entry 2, and Q(x) never has a second coordinate. `unbiased` is therefore
    False, and ||Q(x) - x||^2 = (B ||x||^2 / ||y||_1^2 - 1) ||x||^2 has no useful bound for every x: no delta.

    Wire: seed, round and both switches; then one scale a block in the model's dtype, then d bits, 1 for y >= 0. C_norm: the
    scale embeds ||y||_1 or ||x||^2 / ||y||_1. The decoder enforces the configured seed, the current round, the switches, zero
    padding, scales that are finite and non-negative, bits that are all set in a block of scale zero, and entries that do not
    overflow. Every such payload is Q of what it decodes to: y = c sign(y) has ||y||_1 / B = ||y||^2 / ||y||_1 = c.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import Drive
    >>> spike = torch.tensor([4.0, 0.0, 0.0, 0.0])
    >>> round(Drive().measured_delta(spike), 3), round(Drive(rotate=False).measured_delta(spike), 3)
    (1.0, 0.25)
    """

    rotate: bool = True
    unbiased_scale: bool = False

    name: ClassVar[str] = "drive"
    header: ClassVar[str] = "<QIB"

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> Drive:
        """Read the seed, the round and the switches."""
        seed, round_, word = map(int, scalars)
        return cls(rotate=bool(word & 1), unbiased_scale=bool(word & 2), seed=seed).for_round(round_)

    @property
    def pointwise(self) -> bool:
        """Whether there is no rotation to take an expectation over."""
        return not self.rotate

    def delta(self, d: int) -> float | None:
        """Return 1/2 in expectation over the rotation; 1/d for every x without one; None with the unbiased scale."""
        if d == 1:
            return 1.0
        if self.unbiased_scale:
            return None
        return 0.5 if self.rotate else 1.0 / d

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of one scale a block and of d bits."""
        return self._scale_size(d, dtype) + packed_size(d)

    def check(self, payload: Payload) -> None:
        """Ask for the configured header, zero padding, admissible scales, and positive signs where a scale is zero."""
        self._check_header(payload, self._word, "rotate + 2 unbiased_scale")
        if not padding_is_zero(payload.body, payload.size):
            raise WireError("padding bits must be zero")
        scales = self._scales(payload)
        if not np.isfinite(scales).all() or np.signbit(scales).any():
            raise WireError("scales must be finite and non-negative")
        if not scales.all():
            bits, sizes = self._bits(payload), self._sizes(payload.size)
            if not bits[np.repeat(scales == 0, sizes)].all():
                raise WireError("a zero scale comes with positive signs only")
        with np.errstate(over="ignore"):  # what overflows is refused
            bound = float((scales * np.sqrt(self._sizes(payload.size))).max()) if self.rotate else 0.0
        self._check_range(payload, bound)

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q; for q = 2, and without rotation for every q, from the scales alone."""
        if order != 2 and self.rotate:
            return super().norm(payload, order)
        scales, sizes = self._scales(payload), np.array(self._sizes(payload.size), np.float64)
        return _joined(scales * sizes ** (0.0 if order == math.inf else 1.0 / order), order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the scales say of ||x||_q.

        In a block, ||y||_1 = c B, or ||y||^2 / ||y||_1 = c with the unbiased scale; ||y||_1 / ||y||_2 lies in [1, sqrt(B)],
        and an entry of x is a sum of the y_j with factors +-1/sqrt(B).
        """
        low, high = _BOUNDS[self.rotate, self.unbiased_scale][order]
        scales, sizes = self._scales(payload), np.array(self._sizes(payload.size), np.float64)
        with np.errstate(over="ignore"):  # then nothing bounds it from above
            return _joined(scales * sizes**low, order), _joined(scales * sizes**high, order)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add weighted, scaled signs straight from the bits in the rotated basis, and rotate back once."""
        if not payloads:
            return
        total = np.zeros(out.numel(), out.numpy().dtype)
        scales = np.stack([self._scales(p) for p in payloads]) * np.array(weights, np.float64)[:, None]  # (m, blocks)
        bitmaps = [self._codes_of(p) for p in payloads]
        accumulate_block_signs(total, bitmaps, scales, self._sizes(out.numel()))
        out += torch.from_numpy(self._rotate_out(total))

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the sums over blocks of c_i c_j (B - 2 Hamming distance), straight from the bits in the rotated basis."""
        if chosen is not None or not payloads:
            return super().inner_products(payloads, chosen)
        bitmaps = [self._codes_of(p) for p in payloads]
        return sign_block_products(bitmaps, np.stack([self._scales(p) for p in payloads]), self._sizes(payloads[0].size))

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return the signs and scales in the rotated basis."""
        scales = np.stack([self._scales(p) for p in payloads])
        bitmaps = [self._codes_of(p) for p in payloads]
        return replace(super().columns(payloads), signs=Signs(scales, self._sizes(payloads[0].size), bitmaps))

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return the sum over blocks of c <sign(y), R x>, straight from the bits."""
        if not payloads:
            return np.zeros(0)
        bitmaps = [self._codes_of(p) for p in payloads]
        scales = np.stack([self._scales(p) for p in payloads])  # (m, blocks)
        signs = sign_dots(bitmaps, self._widely_rotated(x), self._sizes(x.numel()))
        return np.asarray((scales * signs).sum(axis=1))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the signs in the rotated basis, and a scale for each block."""
        y, sizes = self._rotate_in(flat), self._sizes(flat.numel())
        magnitude = np.abs(y)
        starts = self._starts(flat.numel())
        sums = np.add.reduceat(magnitude, starts, dtype=np.float64)  # (blocks,)
        if self.unbiased_scale:
            # ||y||^2 / ||y||_1 as ||y||_1 times the squares of the shares, which cannot overflow.
            shares = magnitude / np.repeat(np.where(sums > 0, sums, 1.0), sizes)
            scale = sums * np.add.reduceat(np.square(shares), starts)
        else:
            scale = sums / sizes
        largest = torch.finfo(flat.dtype).max
        scales = torch.from_numpy(scale).clamp(max=largest).to(flat.dtype)
        # A scale that rounds to zero in the dtype sends nothing; error feedback, where on, keeps it all.
        bits = (y >= 0) | np.repeat(as_numpy(scales) == 0, sizes)
        return (self.seed, self.round_, self._word), values_to_bytes(scales) + pack_bits(bits)

    def _levels(self, payload: Payload) -> npt.NDArray[np.floating]:
        signs = self._bits(payload).view(np.int8) * np.int8(2) - np.int8(1)
        return signs.astype(np.float64 if payload.dtype == torch.float64 else np.float32)

    def _rotate(self, x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return super()._rotate(x) if self.rotate else x

    def _rotate_out(self, y: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return super()._rotate_out(y) if self.rotate else y

    def _sizes(self, d: int) -> tuple[int, ...]:
        return super()._sizes(d) if self.rotate else (d,)

    def _bits(self, payload: Payload) -> npt.NDArray[np.uint8]:
        return unpack_bits(self._codes_of(payload), payload.size)

    @property
    def _word(self) -> int:
        return self.rotate | self.unbiased_scale << 1


_BOUNDS: dict[tuple[bool, bool], dict[float, tuple[float, float]]] = {
    (True, False): {1: (0.5, 1.5), 2: (0.5, 1.0), math.inf: (0.0, 0.5)},
    (True, True): {1: (0.0, 1.0), 2: (0.0, 0.5), math.inf: (-0.5, 0.5)},
    (False, False): {1: (1.0, 1.0), 2: (0.5, 1.0), math.inf: (0.0, 1.0)},
    (False, True): {1: (0.0, 1.0), 2: (0.0, 0.5), math.inf: (0.0, 0.5)},
}
"""(rotate, unbiased_scale) -> q -> exponents of B in the bounds of ||x||_q / c over one block."""


def _joined(norms: npt.NDArray[np.float64], order: float) -> float:
    """Return the norm of a vector from those of its blocks."""
    return array_norm(norms, order)
