"""EDEN: a few bits a coordinate in a rotated basis, on levels made for the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Scalars
from flwr_robustcomp.compressors.bits import look_up, pack_codes, packed_size, padding_is_zero
from flwr_robustcomp.compressors.eden_cells import Counts, cells_of
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.scaled_blocks import ScaledBlocks, runs_of_blocks, scale_blocks
from flwr_robustcomp.compressors.values import as_numpy, values_to_bytes
from flwr_robustcomp.errors import WireError, require

__all__ = ["Eden"]


@dataclass(frozen=True)
class Eden(ScaledBlocks):
    """Rotate, and round each coordinate to the nearest of 2^b levels made for the normal distribution (Vargaftik et al. 2022).

    Parameters
    ----------
    bits : int
        b, in [1, 8], for each coordinate. With one bit it is `Drive`.
    seed : int
        Of the rotation, in [0, 2**64), equal on all nodes.

    Notes
    -----
    For a block x of B coordinates let y = R x, and z = sqrt(B) y / ||x||, of mean square 1. A rotated coordinate is close to
    normal, so each z_j is rounded to the nearest level q_j of the Lloyd-Max table of the standard normal (`eden_levels`). Then
    Q(x) = R^T (c q), with c = <y, q> / ||q||^2, the scale of least error: ||Q(x) - x||^2 = ||x||^2 - <y, q>^2 / ||q||^2, at
    most sum_j (z_j - q_j)^2 ||x||^2 / B.

    *Delta, for every x, in expectation over the signs.* z_j = sum_i +-s_i x_i / ||x|| is a Rademacher sum of variance 1, so
    E exp(t z_j^2) <= 1 / sqrt(1 - 2 t) for 0 < t < 1/2: with g standard normal, exp(t z^2) = E_g exp(sqrt(2 t) g z), the
    product of the cosh(a g) is at most exp(t g^2), and E_g exp(t g^2) is the right side. Let A(t) be the largest (z - q(z))^2
    exp(-t z^2) over all z, the unbounded cells included. Then E||Q(x) - x||^2 <= ||x||^2 A(t) / sqrt(1 - 2 t), for every t, B
    and x. With one bit 1/2 holds as for `Drive`, whose payload is the same.

    ==== =============== ==========================
    b    1 - delta       error of a normal vector
    ==== =============== ==========================
    1    0.5             0.363
    2    0.314           0.117
    4    0.0285          0.0095
    8    0.000144        0.0000413
    ==== =============== ==========================

    The last digits of half types add the rounding of Q(x) itself.

    Wire: seed, round and b; then one scale a block in the model's dtype, then d codes of b bits, the levels in ascending order,
    z = 0 above the middle. C_norm. The decoder enforces the configured seed and b, the current round, zero padding, scales that
    are finite and non-negative, the code above the middle throughout a block of scale zero, and entries that do not overflow.
    In any other block it asks that some z of mean square 1 has these codes: the squares of the cells' inner edges add up to at
    most B, and those of the outer edges to at least B. Both sums are whole multiples of 2^-20 and the encoder's z, in double
    precision, is off by less: no rounding makes it write what is refused.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import Eden
    >>> x = torch.arange(1000.0)
    >>> [round(Eden(bits=bits).measured_delta(x), 3) for bits in (2, 4, 8)]
    [0.897, 0.991, 1.0]
    """

    bits: int = 2

    name: ClassVar[str] = "eden"
    header: ClassVar[str] = "<QIB"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.bits, int) and 1 <= self.bits <= 8, "bits", self.bits, "an integer in [1, 8]")

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> Eden:
        """Read the seed, the round and b."""
        seed, round_, bits = map(int, scalars)
        return cls(bits=bits, seed=seed).for_round(round_)

    def delta(self, d: int) -> float:
        """Return what the derivation above gives, in expectation over the rotation."""
        return 1.0 if d == 1 else 1.0 - cells_of(self.bits).error

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of one scale a block and of d codes of b bits."""
        return self._scale_size(d, dtype) + packed_size(d, self.bits)

    def check(self, payload: Payload) -> None:
        """Ask for the configured header, zero padding, admissible scales, and codes that a vector of mean square 1 has."""
        self._check_header(payload, self.bits, "bits")
        if not padding_is_zero(payload.body, payload.size * self.bits):
            raise WireError("padding bits must be zero")
        scales = self._scales(payload)
        if not np.isfinite(scales).all() or np.signbit(scales).any():
            raise WireError("scales must be finite and non-negative")
        cells, counts, sent = cells_of(self.bits), self._counts(payload), scales > 0
        if np.delete(counts[~sent], cells.zero, axis=1).any():
            raise WireError("a zero scale comes with the codes of zeros only")
        if not cells.possible(counts[sent]).all():
            raise WireError("no vector of mean square 1 has the codes of a block")
        with np.errstate(over="ignore"):
            lengths = scales * np.sqrt(cells.squares(counts))
            if not lengths.sum() <= torch.finfo(payload.dtype).max:  # which bounds the norm and every entry
                self._check_range(payload, float(lengths.max()))

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q; for q = 2 from the scales and the codes."""
        if order != 2:
            return super().norm(payload, order)
        return array_norm(self._scales(payload) * np.sqrt(cells_of(self.bits).squares(self._counts(payload))))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the codes and scales say of ||x||_q.

        In a block, ||x|| >= <y, q> / ||q|| = ||Q(x)||; `Cells.longest` is the other side.
        """
        cells, counts, scales = cells_of(self.bits), self._counts(payload), self._scales(payload)
        low = scales * np.sqrt(cells.squares(counts))
        with np.errstate(over="ignore"):  # then nothing bounds it from above
            high = np.maximum(low, scales * cells.longest(counts))
        roots = np.sqrt(np.array(self._sizes(payload.size), np.float64))
        low, high = {1: (low, high * roots), 2: (low, high), math.inf: (low / roots, high)}[order]
        return array_norm(low, order), array_norm(high, order)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add weighted, scaled levels in the rotated basis, and rotate back once."""
        if not payloads:
            return
        total = np.zeros(out.numel(), out.numpy().dtype)
        levels, sizes = cells_of(self.bits).levels.astype(total.dtype), self._sizes(out.numel())
        for payload, weight in zip(payloads, weights, strict=True):
            y = look_up(self._codes_of(payload), levels, payload.size)
            total += scale_blocks(y, self._scales(payload) * weight, sizes)
        out += torch.from_numpy(self._rotate_out(total))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Round the rotated vector, in units of each block's root mean square, to the nearest levels."""
        y, sizes, cells = self._rotate_in(flat), self._sizes(flat.numel()), cells_of(self.bits)
        codes, scale = np.empty(y.size, np.uint8), np.empty(len(sizes))
        for first, part, count in runs_of_blocks(sizes):
            rows = y[part].reshape(count, -1).astype(np.float64)
            codes[part], scale[first : first + count] = (made.reshape(-1) for made in cells.nearest(rows))
        largest = torch.finfo(flat.dtype).max
        scales = torch.from_numpy(scale).clamp(max=largest).to(flat.dtype)
        # A scale that rounds to zero in the dtype sends nothing; error feedback, where on, keeps it all.
        nothing = as_numpy(scales) == 0
        if nothing.any():
            codes[np.repeat(nothing, sizes)] = cells.zero
        return (self.seed, self.round_, self.bits), values_to_bytes(scales) + pack_codes(codes, self.bits)

    def _levels(self, payload: Payload) -> npt.NDArray[np.floating]:
        levels = cells_of(self.bits).levels
        wanted = levels if payload.dtype == torch.float64 else levels.astype(np.float32)
        return look_up(self._codes_of(payload), wanted, payload.size)

    def _counts(self, payload: Payload) -> Counts:
        """Return how often each block has each code, shape (blocks, 2**b)."""
        cells, sizes = cells_of(self.bits), self._sizes(payload.size)
        codes = look_up(self._codes_of(payload), np.arange(1 << self.bits, dtype=np.uint8), payload.size)
        return np.concatenate([cells.counts(codes[part].reshape(n, -1)) for _, part, n in runs_of_blocks(sizes)])
