"""TernGrad: stochastic rounding of x_i / ||x||_inf to -1, 0 or 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bits import ternary_products
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.positions import Coding, check_coding
from flwr_robustcomp.compressors.products import scale_of
from flwr_robustcomp.compressors.rounding import coin_flips
from flwr_robustcomp.compressors.ternary import (
    accumulate_ternary,
    check_ternary,
    largest_ternary,
    nonzero_of,
    planes_of,
    read_ternary,
    write_ternary,
)
from flwr_robustcomp.compressors.values import as_numpy, check_scale, round_to
from flwr_robustcomp.errors import WireError, require

__all__ = ["TernGrad"]


@dataclass(frozen=True)
class TernGrad(Compressor):
    """Send sign(x_i) with probability |x_i| / s, else 0, and the scale s = ||x||_inf (Wen et al. 2017).

    Parameters
    ----------
    contraction : bool
        Divide by 1 + omega, omega = (sqrt(d) - 1)/2. Without it, and without clipping, Q is unbiased.
    clip : float, optional
        First clip every entry to [-c r, c r], r the root mean square of x; Wen et al. take c = 2.5.
    coding : {"entropy", "fixed"}
        Entropy-coded where that is shorter, or always two bits a coordinate.

    Notes
    -----
    Without clipping E[Q(x)] = x and E||Q(x)||^2 = s ||x||_1. With a = s and b = sum_{i > 1} |x_i| for the largest entry first,
    s ||x||_1 / ||x||^2 <= (a^2 + a b) / (a^2 + b^2 / (d - 1)), largest at b = a (sqrt(d) - 1), where it is (1 + sqrt(d))/2 =
    1 + omega. So E||Q(x) - x||^2 <= omega ||x||^2, and dividing by 1 + omega gives a contraction with delta = 2 / (1 + sqrt(d))
    in expectation, as for `QSGD`.

    *Clipping.* Wen et al. clip at c standard deviations. For a mean near zero, as gradients have, that is the root mean square;
    for a constant vector, or an array of one entry, the deviation is zero and would clip everything away. Let u be the
    clipped x. Then Q(u) / (1 + omega) is off x by at most E||.||^2 = s ||u||_1 / (1 + omega)^2 - 2 <u, x> / (1 + omega) +
    ||x||^2 <= ||x||^2 - <u, x> / (1 + omega), as ||u||^2 <= <u, x>. And <u, x> = sum_i min(|x_i|, c r) |x_i| is at least min(1,
    c / sqrt(d)) ||x||^2, since no |x_i| exceeds sqrt(d) r. Hence delta = min(1, c / sqrt(d)) 2 / (1 + sqrt(d)) in expectation.

    Wire: the form and c, the scale (divided, rounded to the dtype), then the ternary symbols. C_norm: the scale embeds
    ||x||_inf. The decoder enforces the configured form and c, canonical symbols, a scale that is finite, non-negative and exact
    in the dtype, and that the scale is zero just where all symbols are. Any such payload is Q of what it decodes to, times 1 +
    omega.
    """

    contraction: bool = True
    clip: float | None = None
    coding: Coding = "entropy"

    name: ClassVar[str] = "tern-grad"
    header: ClassVar[str] = "<Bdd"
    randomized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.clip is None or 0 < self.clip < math.inf, "clip", self.clip, "positive and finite, or None")
        check_coding(self.coding)

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> TernGrad:
        """Read the form and c."""
        word = int(scalars[0])
        clip = float(scalars[1])
        return cls(bool(word & 1), clip if clip else None, "entropy" if word & 2 else "fixed")

    @property
    def exact_size(self) -> bool:  # type: ignore[override]
        """Whether bodies have one size: in the fixed form."""
        return self.coding == "fixed"

    @property
    def unbiased(self) -> bool:
        """Whether neither the division nor clipping is on."""
        return not self.contraction and self.clip is None

    def omega(self, d: int) -> float:
        """Return the variance factor (sqrt(d) - 1)/2 of the unbiased form."""
        return (math.sqrt(d) - 1) / 2

    def delta(self, d: int) -> float | None:
        """Return min(1, c/sqrt(d)) 2/(1 + sqrt(d)); for the unbiased form 1 - omega where positive; in expectation."""
        omega = self.omega(d)
        if self.contraction:
            return (1.0 if self.clip is None else min(1.0, self.clip / math.sqrt(d))) / (1 + omega)
        return 1 - omega if omega < 1 and self.clip is None else None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of two bitmaps of d bits."""
        return largest_ternary(d, self.coding)

    def check(self, payload: Payload) -> None:
        """Ask for the configured form, an admissible scale, canonical symbols, and zeros just where the scale is zero."""
        word, clip, scale = payload.scalars
        if (word, clip) != self._words or math.copysign(1.0, clip) < 0:
            raise WireError(f"form and clip must be {self._words}, as configured, got {(word, clip)}")
        check_scale(scale, payload.dtype)
        if not math.isfinite(scale * payload.size):
            raise WireError(f"the scale of {payload.size} entries must leave their norms finite, got {scale!r}")
        check_ternary(payload.body, payload.size, self.coding)
        if (nonzero_of(payload.body, payload.size, self.coding) == 0) != (scale == 0):
            raise WireError("the scale must be zero where all symbols are, and only there")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return scale * k^(1/q) with k symbols that are not zero."""
        count = nonzero_of(payload.body, payload.size, self.coding)
        root = min(count, 1) if order == math.inf else count ** (1.0 / order)
        return float(payload.scalars[2]) * root

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what ||x||_inf = s, or with clipping c r = s, allows."""
        d = payload.size
        s = float(payload.scalars[2]) * ((1 + self.omega(d)) if self.contraction else 1.0)
        # Unclipped, entries are at most s. Clipped at c r = s, ||x||_2 = sqrt(d) r.
        most = s * math.sqrt(d) * max(1.0, 0.0 if self.clip is None else 1 / self.clip)
        largest = s if self.clip is None else most
        return {1: (s, most * math.sqrt(d)), 2: (s, most), math.inf: (s, largest)}[order]

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add symbols straight from their packed form."""
        scaled = np.array([float(p.scalars[2]) * w for p, w in zip(payloads, weights, strict=True)])
        accumulate_ternary(out.numpy(), [p.body for p in payloads], scaled, self.coding)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return s_i s_j times the products of symbols, from two bits a coordinate; see `bits.ternary_products`."""
        if not payloads:
            return np.zeros((0, 0))
        d = payloads[0].size
        scales = np.array([float(p.scalars[2]) for p in payloads])
        plus, minus = zip(*(planes_of(p.body, d, self.coding) for p in payloads), strict=True)
        return np.asarray(np.outer(scales, scales) * ternary_products(plus, minus, chosen) * scale_of(d, chosen), np.float64)

    def _encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        x = as_numpy(flat)
        magnitude = np.abs(x)
        if self.clip is not None:
            with np.errstate(over="ignore"):
                rms = math.sqrt(float(np.square(x, dtype=np.float64).mean()))
            if not 1e-140 < rms < 1e140:  # squares that matter were lost
                rms = array_norm(x) / math.sqrt(x.size)
            magnitude = np.minimum(magnitude, x.dtype.type(min(self.clip * rms, float(magnitude.max()))))
        peak = float(magnitude.max())
        scale = round_to(peak / (1 + self.omega(x.size)) if self.contraction else peak, flat.dtype)
        if scale == 0:  # too small for the dtype: nothing is sent
            none = np.zeros(x.size, np.bool_)
            return (*self._words, 0.0), write_ternary(none, none, self.coding)
        if peak < 1e-30:  # in float32 what follows would overflow
            magnitude = magnitude.astype(np.float64)
        sent = coin_flips(magnitude, peak, cast(np.random.Generator, rng))
        minus = (x < 0) & sent
        return (*self._words, scale), write_ternary(sent ^ minus, minus, self.coding)

    def _decode(self, payload: Payload) -> Tensor:
        out = torch.empty(payload.size, dtype=working_dtype(payload.dtype))
        values = out.numpy()
        for start, signs in read_ternary(payload.body, payload.size, self.coding):
            np.multiply(signs, values.dtype.type(payload.scalars[2]), out=values[start : start + signs.size])
        return out.to(payload.dtype)

    @property
    def _words(self) -> tuple[int, float]:
        return self.contraction | (self.coding == "entropy") << 1, self.clip or 0.0
