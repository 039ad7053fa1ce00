"""QSGD: stochastic rounding of |x_i| / ||x|| to s levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import WireError, require

__all__ = ["QSGD"]


@dataclass(frozen=True)
class QSGD(Compressor):
    """Round |x_i| / ||x||_2 to one of s + 1 levels at random, without bias; send the norm, the levels and the signs.

    Parameters
    ----------
    levels : int
        s, in [1, 2**15).
    contraction : bool
        Divide by 1 + omega, omega = min(d/s^2, sqrt(d)/s). Without it Q is unbiased; with it Q is a contraction for every d
        and s.

    Notes
    -----
    E[Q(x)] = x and E||Q(x) - x||^2 <= omega ||x||^2 for the unbiased form (Alistarh et al. 2017, Lemma 3.1), so delta = 1
    - omega in expectation, of use only where omega < 1 (the paper's section 3 states it without that condition). Any
    unbiased Q with variance factor omega becomes a contraction with delta = 1 / (1 + omega) when divided by 1 + omega:
    E||Q/(1+omega) - x||^2 <= (1 - 2/(1+omega) + 1/(1+omega)) ||x||^2 = (1 - 1/(1+omega)) ||x||^2.

    Wire: s and the form in one word, ||x||_2 in double precision, then ceil(log2(2s + 1)) bits a coordinate for level +
    s. The decoder enforces the configured s and form, levels within [-s, s], a finite non-negative norm, zero levels for
    a zero norm, and levels that some x of that norm rounds to: sum_i max(|l_i| - 1, 0)^2 < s^2 <= sum_i min(|l_i| + 1,
    s)^2. Without that last test a client could announce a small norm and send d levels of s, a vector sqrt(d) times as
    long.
    """

    levels: int = 16
    contraction: bool = True

    name: ClassVar[str] = "qsgd"
    header: ClassVar[str] = "<Id"
    randomized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(isinstance(self.levels, int) and 1 <= self.levels < 2**15, "levels", self.levels, "an integer in [1, 2**15)")

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> QSGD:
        """Read s and the form."""
        return cls(levels=int(scalars[0]) >> 1, contraction=bool(int(scalars[0]) & 1))

    def omega(self, d: int) -> float:
        """Return the variance factor min(d/s^2, sqrt(d)/s) of the unbiased form."""
        return min(d / self.levels**2, math.sqrt(d) / self.levels)

    def delta(self, d: int) -> float | None:
        """Return 1/(1 + omega), or 1 - omega for the unbiased form where positive; in expectation."""
        omega = self.omega(d)
        if self.contraction:
            return 1 / (1 + omega)
        return 1 - omega if omega < 1 else None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return ceil(d * ceil(log2(2s + 1)) / 8)."""
        return packed_size(d, self._width)

    def check(self, payload: Payload) -> None:
        """Ask for the configured s, canonical levels, and levels that a vector of the announced norm can have."""
        word, norm = payload.scalars
        if word != self._word:
            raise WireError(f"parameter word must be {self._word} (levels={self.levels}), got {word}")
        if not math.isfinite(norm * payload.size) or math.copysign(1.0, norm) < 0:
            raise WireError(f"the norm must be finite and non-negative, got {norm!r}")
        if not padding_is_zero(payload.body, payload.size * self._width):
            raise WireError("padding bits must be zero")
        magnitude = np.abs(self._levels(payload)).astype(np.float64)
        if magnitude.max() > self.levels:
            raise WireError(f"levels must lie in [-{self.levels}, {self.levels}]")
        if norm == 0:
            if magnitude.any():
                raise WireError("a zero norm comes with zero levels only")
        else:
            # Level l needs s|x_i|/||x|| > l - 1 and < l + 1; s|x|/||x|| has l2 norm s.
            below = float(np.square(np.maximum(magnitude - 1, 0)).sum())
            above = float(np.square(np.minimum(magnitude + 1, self.levels)).sum())
            if below >= self.levels**2 or above < self.levels**2:
                raise WireError("no vector of the announced norm rounds to these levels")
        if not math.isfinite(float(torch.tensor(self._unit(payload) * magnitude.max(), dtype=torch.float64).to(payload.dtype))):
            raise WireError(f"an entry overflows {payload.dtype}")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the integer levels."""
        magnitude = np.abs(self._levels(payload)).astype(np.float64)
        return self._unit(payload) * float(np.linalg.norm(magnitude, ord=order))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the announced l2 norm allows: itself, up to sqrt(d) times it (l1), down to 1/sqrt(d) of it (l_inf)."""
        norm, root = float(payload.scalars[1]), math.sqrt(payload.size)
        return {1: (norm, norm * root), 2: (norm, norm), math.inf: (norm / root, norm)}[order]

    def _encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        x = as_numpy(flat)
        wide = x.astype(np.float64, copy=False)
        norm = float(np.linalg.norm(wide))
        if norm == 0.0:
            levels = np.zeros(x.size, np.int32)
        else:
            # In float32 s/||x|| overflows, and entries lose their digits, where the norm is near the smallest normal number.
            scaled = np.abs(x if norm > 1e-30 else wide) * (self.levels / norm)
            floor = np.floor(scaled)
            up = cast(np.random.Generator, rng).random(x.size, dtype=np.float32) < scaled - floor
            levels = (np.minimum(floor + up, self.levels) * np.sign(x)).astype(np.int32)
        return (self._word, norm), pack_uints((levels + self.levels).astype(np.uint32), self._width)

    def _decode(self, payload: Payload) -> Tensor:
        levels = torch.from_numpy(self._levels(payload)).to(working_dtype(payload.dtype))
        return levels.mul_(self._unit(payload)).to(payload.dtype)

    def _levels(self, payload: Payload) -> npt.NDArray[np.int32]:
        return unpack_uints(payload.body, payload.size, self._width).astype(np.int32) - self.levels

    def _unit(self, payload: Payload) -> float:
        """Return the value of one level."""
        shrink = 1 + self.omega(payload.size) if self.contraction else 1.0
        return float(payload.scalars[1]) / self.levels / shrink

    @property
    def _width(self) -> int:
        return (2 * self.levels).bit_length()

    @property
    def _word(self) -> int:
        return self.levels << 1 | self.contraction
