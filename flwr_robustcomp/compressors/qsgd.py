"""QSGD: stochastic rounding of |x_i| / ||x|| to s levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.buckets import (
    bucket_norms,
    bucket_of_exponent,
    bucket_sizes,
    bucket_starts,
    check_bucket,
    exponent_of_bucket,
    fold,
    in_bucket,
    spread,
)
from flwr_robustcomp.compressors.levels import check_levels, count_levels, largest_levels, read_levels, write_levels
from flwr_robustcomp.compressors.norms import array_norm, vector_norm
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.positions import Coding, check_coding
from flwr_robustcomp.compressors.rounding import round_at_random
from flwr_robustcomp.compressors.sums import total
from flwr_robustcomp.compressors.values import as_numpy, round_to, values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError, require

__all__ = ["QSGD"]


@dataclass(frozen=True)
class QSGD(Compressor):
    """Round |x_i| / ||x||_2 to one of s + 1 levels at random, without bias, in each bucket; send norms, levels and signs.

    Parameters
    ----------
    levels : int
        s, in [1, 2**15).
    contraction : bool
        Divide by 1 + omega. Without it Q is unbiased, and a contraction where omega < 1, as at the defaults. With it Q is a
        contraction for every s and B, and a step of a run without error feedback is 1 + omega times as short.
    coding : {"entropy", "fixed"}
        Entropy-coded where that is shorter, or always ceil(log2(2s + 1)) bits a coordinate.
    bucket : int, optional
        B, a power of two in [8, 2**20]: so many coordinates share a norm; the last bucket may be shorter. None, or 0 as TOML
        has it, for one norm of the whole vector.

    Notes
    -----
    In a bucket of n <= B coordinates E[Q(x)] = x and E||Q(x) - x||^2 <= omega ||x||^2 with omega = min(n/s^2, sqrt(n)/s)
    (Alistarh et al. 2017, Lemma 3.1). It grows with n, and squared errors of buckets add up, so the whole vector has the omega
    of n = min(d, B), whatever d. Hence delta = 1 - omega in expectation for the unbiased form, of use only where omega < 1 (the
    paper's section 3 states it without that condition). Any unbiased Q with variance factor omega becomes a contraction with
    delta = 1 / (1 + omega) when divided by 1 + omega: E||Q/(1+omega) - x||^2 <= (1 - 2/(1+omega) + 1/(1+omega)) ||x||^2 =
    (1 - 1/(1+omega)) ||x||^2. Each bucket is divided by its own 1 + omega.

    Without buckets omega is about sqrt(d)/s, 12 for a small network and 16 levels: too much noise, or too short a step.
    docs/adr/0023-buckets.md has what was measured.

    Wire: s, the forms and log2 B in one word and the norm of the first bucket in double precision; then the norms of the other
    buckets, and the symbols level + s: ceil(log2(2s + 1)) bits each, or entropy-coded where that is shorter. With buckets,
    norms are numbers of float32 (float64 for float64 models), rounded up, so that no entry exceeds its norm and nothing is
    biased. The decoder enforces the configured word, levels within [-s, s], finite non-negative norms, zero levels for a zero
    norm, and in each bucket levels that some x of that norm rounds to: sum_i max(|l_i| - 1, 0)^2 < s^2 <= sum_i min(|l_i| + 1,
    s)^2, up to the rounding of the norm. Without that last test a client could announce a small norm and send n levels of s, a
    vector sqrt(n) times as long.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flwr_robustcomp import QSGD
    >>> q = QSGD()
    >>> q.unbiased, q.omega(1_000_000), q.delta(1_000_000)
    (True, 0.5, 0.5)
    >>> x = torch.linspace(-1, 1, 10_000)
    >>> payload = q.compress(x, np.random.default_rng(0))
    >>> len(payload.body) < 10_000 * 4 / 8 and q.measured_delta(x, np.random.default_rng(0)) > 0.5
    True
    """

    levels: int = 32
    contraction: bool = False
    coding: Coding = "entropy"
    bucket: int | None = 512

    name: ClassVar[str] = "qsgd"
    keeps_zeros: ClassVar[bool] = True
    version: ClassVar[int] = 2
    header: ClassVar[str] = "<Id"
    randomized: ClassVar[bool] = True
    exact_decode = True

    def __post_init__(self) -> None:
        require(isinstance(self.levels, int) and 1 <= self.levels < 2**15, "levels", self.levels, "an integer in [1, 2**15)")
        check_coding(self.coding)
        object.__setattr__(self, "bucket", check_bucket(self.bucket))

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> QSGD:
        """Read s, the forms and the size of a bucket."""
        word = int(scalars[0])
        coding: Coding = "entropy" if word & 2 else "fixed"
        return cls((word & 0x1FFFF) >> 2, bool(word & 1), coding, bucket_of_exponent(word >> 17))

    @property
    def exact_size(self) -> bool:  # type: ignore[override]
        """Whether bodies have one size: in the fixed form."""
        return self.coding == "fixed"

    @property
    def unbiased(self) -> bool:
        """Whether nothing is divided."""
        return not self.contraction

    def omega(self, d: int) -> float:
        """Return the variance factor min(n/s^2, sqrt(n)/s) of the unbiased form, n = min(d, B)."""
        n = in_bucket(d, self.bucket)
        return min(n / self.levels**2, math.sqrt(n) / self.levels)

    def delta(self, d: int) -> float | None:
        """Return 1/(1 + omega), or 1 - omega for the unbiased form where positive; in expectation."""
        omega = self.omega(d)
        if self.contraction:
            return 1 / (1 + omega)
        return 1 - omega if omega < 1 else None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of all norms but the first and of d levels; the largest number where they are entropy-coded."""
        return self._norms_size(d, dtype) + largest_levels(d, self.levels, self.coding)

    def check(self, payload: Payload) -> None:
        """Ask for the configured parameters, canonical levels, and levels that buckets of the announced norms can have."""
        word, d, s = payload.scalars[0], payload.size, self.levels
        if word != self._word:
            raise WireError(f"parameter word must be {self._word} (levels={s}, bucket={self.bucket}), got {word}")
        norms = self._checked_norms(payload)
        low = self._least(norms, payload.dtype)
        # Level l needs s|x_i|/||x|| > l - 1 and < l + 1; s|x|/||x|| has l2 norm s.
        n = norms.size
        below, above, peak = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        for start, levels in check_levels(self._levels_of(payload), d, s, self.coding):
            magnitude = np.abs(levels).astype(np.int64)
            fold(below, np.add, np.square(np.maximum(magnitude - 1, 0)), start, self.bucket)
            fold(above, np.add, np.square(np.minimum(magnitude + 1, s)), start, self.bucket)
            fold(peak, np.maximum, magnitude, start, self.bucket)
        if peak[norms == 0].any():
            raise WireError("a zero norm comes with zero levels only")
        with np.errstate(invalid="ignore"):
            least = s**2 * np.where(norms > 0, low / norms, 0.0) ** 2
        if ((norms > 0) & ((below >= s**2) | (above < least))).any():
            raise WireError("no vector of the announced norm rounds to these levels")
        # One level at least: a unit that overflows turns even levels of zero into NaN.
        largest = torch.from_numpy(self._units(norms, d) * np.maximum(peak, 1)).to(payload.dtype)
        if not bool(torch.isfinite(largest).all()):
            raise WireError(f"an entry overflows {payload.dtype}")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q; of one bucket from the counts of its levels, which need not be decoded for that."""
        units = self._units(self._norms(payload), payload.size)
        if units.size > 1:
            parts = [vector_norm(values, order) for _, values in self._parts(payload)]
            return array_norm(np.array(parts), order)
        levels, counts = count_levels(self._levels_of(payload), payload.size, self.levels, self.coding)
        entries = self._values(payload, units, np.abs(levels), 0).double().numpy()
        peak = float(entries.max())
        if order == math.inf or not peak:
            return peak
        return peak * math.pow(float(total(counts * (entries / peak) ** order)), 1.0 / order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the announced l2 norms allow: themselves, up to sqrt(n) times them (l1), down to 1/sqrt(n) (l_inf)."""
        high = self._norms(payload)
        low, roots = self._least(high, payload.dtype), np.sqrt(bucket_sizes(payload.size, self.bucket))
        low, high = {1: (low, high * roots), 2: (low, high), math.inf: (low / roots, high)}[order]
        return array_norm(low, order), array_norm(high, order)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add levels times their value; what is entropy-coded is added as it is decoded, a part at a time."""
        target = out.numpy()
        for payload, weight in zip(payloads, weights, strict=True):
            # Rounded to the model's dtype first, as the client's residual has it.
            units = self._units(self._norms(payload), payload.size)
            if units.size > 1:
                for start, values in self._parts(payload):
                    out[start : start + values.numel()].add_(values.to(out.dtype), alpha=weight)
                continue
            ladder = self._values(payload, units, np.arange(-self.levels, self.levels + 1), 0)
            steps = ladder.to(out.dtype).mul_(weight).numpy()
            for start, levels in read_levels(self._levels_of(payload), payload.size, self.levels, self.coding):
                target[start : start + levels.size] += steps[levels + self.levels]

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Round each bucket to levels of its norm, at random."""
        x = as_numpy(flat)
        wide = x.astype(np.float64, copy=False)
        norms = self._rounded_up(bucket_norms(wide, self.bucket), flat.dtype)
        if norms.any():
            # In float32 s/||x|| overflows, and entries lose their digits, where the norm is near the smallest normal number.
            # In float64 s/||x|| overflows there as well.
            least, units = float(norms[norms > 0].min()), np.where(norms > 0, norms, 1.0)
            source = x if least > 1e-30 else wide
            scaled = (
                np.abs(source) * spread((self.levels / units).astype(source.dtype), self.bucket, 0, x.size)
                if least > 1e-290
                else np.abs(wide) / spread(units, self.bucket, 0, x.size) * self.levels
            )
            levels = np.minimum(round_at_random(scaled, cast(np.random.Generator, rng)), self.levels)
            np.negative(levels, out=levels, where=x < 0)
        else:
            levels = np.zeros(x.size, np.int32)
        others = values_to_bytes(torch.from_numpy(norms[1:]).to(working_dtype(flat.dtype)))
        return (self._word, float(norms[0])), others + write_levels(levels, self.levels, self.coding)

    def decode(self, payload: Payload) -> Tensor:
        """Return levels times their bucket's unit."""
        return torch.cat([values for _, values in self._parts(payload)])

    def _parts(self, payload: Payload) -> Iterator[tuple[int, Tensor]]:
        """Yield the entries of Q(x) a part at a time, each with its first place."""
        units = self._units(self._norms(payload), payload.size)
        for start, levels in read_levels(self._levels_of(payload), payload.size, self.levels, self.coding):
            yield start, self._values(payload, units, levels, start)

    def _values(self, payload: Payload, units: npt.NDArray[np.float64], levels: npt.NDArray[np.integer], start: int) -> Tensor:
        """Return levels, the first of which has the place ``start``, times their unit, in the payload's dtype."""
        work = working_dtype(payload.dtype)
        unit = torch.from_numpy(spread(units, self.bucket, start, start + levels.size)).to(work)
        return torch.from_numpy(levels).to(work).mul_(unit).to(payload.dtype)

    def _units(self, norms: npt.NDArray[np.float64], d: int) -> npt.NDArray[np.float64]:
        """Return the value of one level of each bucket, shape (n,)."""
        units = norms / self.levels
        return units / (1 + self._omegas(d)) if self.contraction else units

    def _omegas(self, d: int) -> npt.NDArray[np.float64]:
        """Return omega of each bucket, shape (n,); the last one may be shorter."""
        sizes = bucket_sizes(d, self.bucket)
        return np.minimum(sizes / self.levels**2, np.sqrt(sizes) / self.levels)

    # -- norms: of the first bucket in the header, of the others before the levels ----------------------------------------

    def _norms(self, payload: Payload) -> npt.NDArray[np.float64]:
        """Return the norm of each bucket, shape (n,)."""
        size = self._norms_size(payload.size, payload.dtype)
        if len(payload.body) < size:
            raise WireError("truncated norms")
        others = values_from_bytes(payload.body[:size], working_dtype(payload.dtype)) if size else torch.zeros(0)
        return np.append(float(payload.scalars[1]), others.double().numpy())

    def _checked_norms(self, payload: Payload) -> npt.NDArray[np.float64]:
        norms, work = self._norms(payload), working_dtype(payload.dtype)
        with np.errstate(over="ignore"):
            finite = math.isfinite(float((norms * bucket_sizes(payload.size, self.bucket)).sum()))
        if not finite or np.signbit(norms).any():
            raise WireError(f"the norm of each bucket must be finite and non-negative, got {norms[:8]}")
        if self.bucket is not None and round_to(float(norms[0]), work) != norms[0]:
            raise WireError(f"the norm of the first bucket must be exact in {work}, got {float(norms[0])!r}")
        return norms

    def _levels_of(self, payload: Payload) -> bytes:
        return payload.body[self._norms_size(payload.size, payload.dtype) :]

    def _norms_size(self, d: int, dtype: torch.dtype) -> int:
        return (bucket_starts(d, self.bucket).size - 1) * working_dtype(dtype).itemsize

    def _rounded_up(self, norms: npt.NDArray[np.float64], dtype: torch.dtype) -> npt.NDArray[np.float64]:
        """Return norms as they travel: as they are, or the next numbers of float32, so that no entry exceeds its norm."""
        if self.bucket is None or working_dtype(dtype) == torch.float64:
            return norms
        largest = np.finfo(np.float32).max
        narrow = np.minimum(norms, largest).astype(np.float32)
        up = np.where(narrow < norms, np.nextafter(narrow, largest), narrow)
        return up.astype(np.float64)

    def _least(self, norms: npt.NDArray[np.float64], dtype: torch.dtype) -> npt.NDArray[np.float64]:
        """Return the norms below which `_rounded_up` gives other ones."""
        if self.bucket is None or working_dtype(dtype) == torch.float64:
            return norms
        return np.nextafter(norms.astype(np.float32), np.float32(0)).astype(np.float64)

    @property
    def _word(self) -> int:
        return exponent_of_bucket(self.bucket) << 17 | self.levels << 2 | (self.coding == "entropy") << 1 | self.contraction
