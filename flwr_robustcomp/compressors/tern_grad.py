"""TernGrad: stochastic rounding of x_i / ||x||_inf to -1, 0 or 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bucket_products import bucket_products
from flwr_robustcomp.compressors.buckets import (
    bucket_norms,
    bucket_of_exponent,
    bucket_sizes,
    bucket_starts,
    check_bucket,
    exponent_of_bucket,
    in_bucket,
    spread,
)
from flwr_robustcomp.compressors.columns import Columns, Signs
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.positions import Coding, check_coding
from flwr_robustcomp.compressors.products import scale_of
from flwr_robustcomp.compressors.rounding import coin_flips
from flwr_robustcomp.compressors.sign_counts import SignCounts, ternary_counts
from flwr_robustcomp.compressors.ternary import (
    accumulate_ternary,
    check_ternary,
    largest_ternary,
    non_zeros_of,
    planes_of,
    read_ternary,
    write_ternary,
)
from flwr_robustcomp.compressors.values import as_numpy, check_scale, values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError, require

__all__ = ["TernGrad"]

Scales = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TernGrad(Compressor):
    """Send sign(x_i) with probability |x_i| / s, else 0, and the scale s = ||x||_inf of each bucket (Wen et al. 2017).

    Parameters
    ----------
    contraction : bool
        Divide by 1 + omega, omega = (sqrt(n) - 1)/2 for buckets of n. Without it, and without clipping, Q is unbiased. With it
        Q is a contraction, and a step of a run without error feedback is 1 + omega times as short.
    clip : float, optional
        First clip every entry to [-c r, c r], r the root mean square of its bucket; Wen et al. take c = 2.5.
    coding : {"entropy", "fixed"}
        Entropy-coded where that is shorter, or always two bits a coordinate.
    bucket : int, optional
        B, a power of two in [8, 2**20]: so many coordinates share a scale; the last bucket may be shorter. None, or 0 as TOML
        has it, for one scale of the whole vector.

    Notes
    -----
    All of this holds in each bucket, of n <= B coordinates, and then with n = min(d, B) for the vector: the factors grow with
    n, and squared errors of buckets add up. Each bucket is divided by its own 1 + omega.

    Without clipping E[Q(x)] = x and E||Q(x)||^2 = s ||x||_1. With a = s and b = sum_{i > 1} |x_i| for the largest entry first,
    s ||x||_1 / ||x||^2 <= (a^2 + a b) / (a^2 + b^2 / (n - 1)), largest at b = a (sqrt(n) - 1), where it is (1 + sqrt(n))/2 =
    1 + omega. So E||Q(x) - x||^2 <= omega ||x||^2, and dividing by 1 + omega gives a contraction with delta = 2 / (1 + sqrt(n))
    in expectation, as for `QSGD`. One trit leaves omega above 1 for every n > 9: the unbiased form, the default, guarantees no
    contraction, and error feedback on it has no theorem. It trained all the same (docs/adr/0023-buckets.md);
    `contraction=True` is the form with the guarantee.

    *Clipping.* Wen et al. clip at c standard deviations. For a mean near zero, as gradients have, that is the root mean square;
    for a constant vector, or an array of one entry, the deviation is zero and would clip everything away. Let u be the
    clipped x. Then Q(u) / (1 + omega) is off x by at most E||.||^2 = s ||u||_1 / (1 + omega)^2 - 2 <u, x> / (1 + omega) +
    ||x||^2 <= ||x||^2 - <u, x> / (1 + omega), as ||u||^2 <= <u, x>. And <u, x> = sum_i min(|x_i|, c r) |x_i| is at least min(1,
    c / sqrt(n)) ||x||^2, since no |x_i| exceeds sqrt(n) r. Hence delta = min(1, c / sqrt(n)) 2 / (1 + sqrt(n)) in expectation.

    Wire: the form with log2 B, c, and the scale of the first bucket (divided, rounded to the dtype); then the scales of the
    other buckets, in the dtype, and the ternary symbols. C_norm: the scales embed ||x||_inf. The decoder enforces the
    configured form and c, canonical symbols, scales that are finite, non-negative and exact in the dtype, and that a scale is
    zero just where all symbols of its bucket are. Any such payload is Q of what it decodes to, times 1 + omega.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flwr_robustcomp import TernGrad
    >>> q = TernGrad(bucket=8, coding="fixed")
    >>> x = torch.cat([torch.full((8,), 4.0), torch.full((8,), -0.25)])
    >>> q.decompress(q.compress(x, np.random.default_rng(0))).unique().tolist()
    [-0.25, 4.0]
    """

    contraction: bool = False
    clip: float | None = None
    coding: Coding = "entropy"
    bucket: int | None = 512

    name: ClassVar[str] = "tern-grad"
    keeps_zeros: ClassVar[bool] = True
    header: ClassVar[str] = "<Bdd"
    randomized: ClassVar[bool] = True
    exact_decode = True

    def __post_init__(self) -> None:
        require(self.clip is None or 0 < self.clip < math.inf, "clip", self.clip, "positive and finite, or None")
        check_coding(self.coding)
        object.__setattr__(self, "bucket", check_bucket(self.bucket))

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> TernGrad:
        """Read the form, c and the size of a bucket."""
        word, clip = int(scalars[0]), float(scalars[1])
        coding: Coding = "entropy" if word & 2 else "fixed"
        return cls(bool(word & 1), clip if clip else None, coding, bucket_of_exponent(word >> 2))

    @property
    def exact_size(self) -> bool:  # type: ignore[override]
        """Whether bodies have one size: in the fixed form."""
        return self.coding == "fixed"

    @property
    def unbiased(self) -> bool:
        """Whether neither the division nor clipping is on."""
        return not self.contraction and self.clip is None

    def omega(self, d: int) -> float:
        """Return the variance factor (sqrt(n) - 1)/2 of the unbiased form, n = min(d, B)."""
        return (math.sqrt(in_bucket(d, self.bucket)) - 1) / 2

    def delta(self, d: int) -> float | None:
        """Return min(1, c/sqrt(n)) 2/(1 + sqrt(n)); for the unbiased form 1 - omega where positive; in expectation."""
        omega = self.omega(d)
        if self.contraction:
            root = math.sqrt(in_bucket(d, self.bucket))
            return (1.0 if self.clip is None else min(1.0, self.clip / root)) / (1 + omega)
        return 1 - omega if omega < 1 and self.clip is None else None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of all scales but the first and of two bitmaps of d bits."""
        return self._scales_size(d, dtype) + largest_ternary(d, self.coding)

    def check(self, payload: Payload) -> None:
        """Ask for the configured form, admissible scales, canonical symbols, and zeros just where a scale is zero."""
        word, clip, _ = payload.scalars
        if (word, clip) != self._words or math.copysign(1.0, clip) < 0:
            raise WireError(f"form and clip must be {self._words}, as configured, got {(word, clip)}")
        check_scale(float(payload.scalars[2]), payload.dtype)
        scales, symbols = self._scales(payload), self._symbols(payload)
        if not np.isfinite(scales).all() or np.signbit(scales).any():
            raise WireError("every scale must be finite and non-negative")
        with np.errstate(over="ignore"):
            finite = math.isfinite(float((scales * bucket_sizes(payload.size, self.bucket)).sum()))
        if not finite:
            raise WireError(f"the scales of {payload.size} entries must leave their norms finite, got {scales[:8]}")
        check_ternary(symbols, payload.size, self.coding)
        if ((self._counts(payload) == 0) != (scales == 0)).any():
            raise WireError("the scale must be zero where all symbols are, and only there")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return the norm of scale * k^(1/q) over the buckets, with k symbols that are not zero in each."""
        counts = self._counts(payload)
        roots = np.minimum(counts, 1) if order == math.inf else counts ** (1.0 / order)
        return array_norm(self._scales(payload) * roots, order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what ||.||_inf = s of each bucket, or with clipping c r = s, allows."""
        sizes = bucket_sizes(payload.size, self.bucket)
        s, roots = self._scales(payload), np.sqrt(sizes)
        if self.contraction:
            s = s * (1 + self._omegas(payload.size))
        # Unclipped, entries are at most s. Clipped at c r = s, ||x||_2 = sqrt(n) r.
        most = s * roots * max(1.0, 0.0 if self.clip is None else 1 / self.clip)
        largest = s if self.clip is None else most
        high = {1: most * roots, 2: most, math.inf: largest}[order]
        return array_norm(s, order), array_norm(high, order)

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the symbols: a scale is zero only where all of its bucket are."""
        return ternary_counts(self._symbols(payload), payload.size, self.coding)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add symbols straight from their packed form."""
        if payloads:
            scaled = np.stack([self._scales(p) for p in payloads]) * np.array(weights, np.float64)[:, None]  # (m, n)
            accumulate_ternary(out.numpy(), [self._symbols(p) for p in payloads], scaled, self.coding, self.bucket)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return products of symbols, from two bits a coordinate, times the scales; see `bucket_products`."""
        if not payloads:
            return np.zeros((0, 0))
        d = payloads[0].size
        scales = np.stack([self._scales(p) for p in payloads])
        plus, minus = zip(*(planes_of(self._symbols(p), d, self.coding) for p in payloads), strict=True)
        return bucket_products(plus, minus, scales, self.bucket, chosen) * scale_of(d, chosen)

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return two bitmaps and the scales, where buckets end between words."""
        d, columns = payloads[0].size, super().columns(payloads)
        if self.bucket is not None and self.bucket % 64:
            return columns
        plus, minus = zip(*(planes_of(self._symbols(p), d, self.coding) for p in payloads), strict=True)
        scales = np.stack([self._scales(p) for p in payloads])
        return replace(columns, signs=Signs(scales, bucket_sizes(d, self.bucket).tolist(), plus, minus))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Round each bucket to -1, 0 and 1 times its scale, at random."""
        x = as_numpy(flat)
        magnitude, starts = np.abs(x), bucket_starts(x.size, self.bucket)
        peaks = np.maximum.reduceat(magnitude, starts).astype(np.float64)
        if self.clip is not None:
            most = np.minimum(self.clip * self._root_mean_squares(x), peaks).astype(x.dtype)
            magnitude = np.minimum(magnitude, spread(most, self.bucket, 0, x.size))
            peaks = np.maximum.reduceat(magnitude, starts).astype(np.float64)
        scales = self._rounded(peaks / (1 + self._omegas(x.size)) if self.contraction else peaks, flat.dtype)
        sent = np.zeros(x.size, np.bool_)
        if scales.any():
            peaks[scales == 0] = 0.0  # too small for the dtype: nothing is sent
            units = np.where(peaks > 0, peaks, 1.0)
            if not peaks.all():
                magnitude = magnitude * spread((peaks > 0).astype(x.dtype), self.bucket, 0, x.size)
            wide, ones = magnitude, spread(units, self.bucket, 0, x.size)
            if units.min() < 1e-30:  # in float32 what follows would overflow
                wide = magnitude.astype(np.float64)
            if units.min() < 1e-290:  # in float64 as well
                wide, ones = wide / ones, np.ones(())
            sent = coin_flips(wide, ones, cast(np.random.Generator, rng))
        minus = (x < 0) & sent
        others = values_to_bytes(torch.from_numpy(scales[1:]).to(flat.dtype))
        return (*self._words, float(scales[0])), others + write_ternary(sent ^ minus, minus, self.coding)

    def decode(self, payload: Payload) -> Tensor:
        """Return the signs times their bucket's scale."""
        out = torch.empty(payload.size, dtype=working_dtype(payload.dtype))
        values = out.numpy()
        scales = self._scales(payload).astype(values.dtype)
        for start, signs in read_ternary(self._symbols(payload), payload.size, self.coding):
            stop = start + signs.size
            np.multiply(signs, spread(scales, self.bucket, start, stop), out=values[start:stop])
        return out.to(payload.dtype)

    def _root_mean_squares(self, x: npt.NDArray[np.floating]) -> Scales:
        """Return the root mean square of each bucket, shape (n,)."""
        if self.bucket is not None:
            return bucket_norms(x.astype(np.float64, copy=False), self.bucket) / np.sqrt(bucket_sizes(x.size, self.bucket))
        with np.errstate(over="ignore"):
            rms = math.sqrt(float(np.square(x, dtype=np.float64).mean()))
        if not 1e-140 < rms < 1e140:  # squares that matter were lost
            rms = array_norm(x) / math.sqrt(x.size)
        return np.array([rms])

    def _omegas(self, d: int) -> Scales:
        """Return omega of each bucket, shape (n,); the last one may be shorter."""
        return np.asarray((np.sqrt(bucket_sizes(d, self.bucket)) - 1) / 2, np.float64)

    def _counts(self, payload: Payload) -> npt.NDArray[np.int64]:
        """Return how many symbols of each bucket are not zero, shape (n,)."""
        return non_zeros_of(self._symbols(payload), payload.size, self.coding, self.bucket)

    # -- scales: of the first bucket in the header, of the others before the symbols --------------------------------------

    @staticmethod
    def _rounded(scales: Scales, dtype: torch.dtype) -> Scales:
        """Return the nearest numbers of a dtype."""
        return torch.from_numpy(scales).to(dtype).double().numpy()

    def _scales(self, payload: Payload) -> Scales:
        """Return the scale of each bucket, shape (n,)."""
        size = self._scales_size(payload.size, payload.dtype)
        if len(payload.body) < size:
            raise WireError("truncated scales")
        others = values_from_bytes(payload.body[:size], payload.dtype) if size else torch.zeros(0)
        return np.append(float(payload.scalars[2]), others.double().numpy())

    def _symbols(self, payload: Payload) -> bytes:
        return payload.body[self._scales_size(payload.size, payload.dtype) :]

    def _scales_size(self, d: int, dtype: torch.dtype) -> int:
        return (bucket_starts(d, self.bucket).size - 1) * dtype.itemsize

    @property
    def _words(self) -> tuple[int, float]:
        form = exponent_of_bucket(self.bucket) << 2 | (self.coding == "entropy") << 1 | self.contraction
        return form, self.clip or 0.0
