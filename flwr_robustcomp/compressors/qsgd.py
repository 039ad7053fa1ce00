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
from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.compressors.entropy import decode_chunks, encode_symbols, histogram
from flwr_robustcomp.compressors.norms import array_norm
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.positions import Coding, check_coding
from flwr_robustcomp.compressors.rounding import round_at_random
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import WireError, require

__all__ = ["QSGD"]

_FIXED, _ENTROPY = b"\0", b"\1"


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
    coding : {"entropy", "fixed"}
        Entropy-coded where that is shorter, or always ceil(log2(2s + 1)) bits a coordinate.

    Notes
    -----
    E[Q(x)] = x and E||Q(x) - x||^2 <= omega ||x||^2 for the unbiased form (Alistarh et al. 2017, Lemma 3.1), so delta = 1
    - omega in expectation, of use only where omega < 1 (the paper's section 3 states it without that condition). Any
    unbiased Q with variance factor omega becomes a contraction with delta = 1 / (1 + omega) when divided by 1 + omega:
    E||Q/(1+omega) - x||^2 <= (1 - 2/(1+omega) + 1/(1+omega)) ||x||^2 = (1 - 1/(1+omega)) ||x||^2.

    Wire: s and the forms in one word, ||x||_2 in double precision, then the symbols level + s: ceil(log2(2s + 1)) bits each, or
    entropy-coded where that is shorter. The decoder enforces the configured s and form, levels within [-s, s], a finite
    non-negative norm, zero levels for a zero norm, and levels that some x of that norm rounds to: sum_i max(|l_i| - 1, 0)^2 <
    s^2 <= sum_i min(|l_i| + 1, s)^2. Without that last test a client could announce a small norm and send d levels of s, a
    vector sqrt(d) times as long.
    """

    levels: int = 16
    contraction: bool = True
    coding: Coding = "entropy"

    name: ClassVar[str] = "qsgd"
    version: ClassVar[int] = 2
    header: ClassVar[str] = "<Id"
    randomized: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(isinstance(self.levels, int) and 1 <= self.levels < 2**15, "levels", self.levels, "an integer in [1, 2**15)")
        check_coding(self.coding)

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> QSGD:
        """Read s and the forms."""
        word = int(scalars[0])
        return cls(levels=word >> 2, contraction=bool(word & 1), coding="entropy" if word & 2 else "fixed")

    @property
    def exact_size(self) -> bool:  # type: ignore[override]
        """Whether bodies have one size: in the fixed form."""
        return self.coding == "fixed"

    @property
    def unbiased(self) -> bool:
        """Whether nothing is divided."""
        return not self.contraction

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
        """Return ceil(d * ceil(log2(2s + 1)) / 8), and a byte that names the form if it is not fixed."""
        return packed_size(d, self._width) + (self.coding == "entropy")

    def check(self, payload: Payload) -> None:
        """Ask for the configured s, canonical levels, and levels that a vector of the announced norm can have."""
        word, norm = payload.scalars
        if word != self._word:
            raise WireError(f"parameter word must be {self._word} (levels={self.levels}), got {word}")
        if not math.isfinite(norm * payload.size) or math.copysign(1.0, norm) < 0:
            raise WireError(f"the norm must be finite and non-negative, got {norm!r}")
        levels, counts = self._histogram(payload, check=True)
        magnitude = np.abs(levels).astype(np.float64)
        if norm == 0:
            if magnitude.any():
                raise WireError("a zero norm comes with zero levels only")
        else:
            # Level l needs s|x_i|/||x|| > l - 1 and < l + 1; s|x|/||x|| has l2 norm s.
            below = float(counts @ np.square(np.maximum(magnitude - 1, 0)))
            above = float(counts @ np.square(np.minimum(magnitude + 1, self.levels)))
            if below >= self.levels**2 or above < self.levels**2:
                raise WireError("no vector of the announced norm rounds to these levels")
        # One level at least: a unit that overflows turns even levels of zero into NaN.
        largest = torch.tensor(self._unit(payload) * max(1.0, magnitude.max()), dtype=torch.float64)
        if not math.isfinite(float(largest.to(payload.dtype))):
            raise WireError(f"an entry overflows {payload.dtype}")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the counts of the levels; what is entropy-coded need not be decoded."""
        levels, counts = self._histogram(payload)
        values = self._values(payload, torch.from_numpy(np.abs(levels))).double().numpy()
        if order == math.inf:
            return float(values.max())
        peak = float(values.max())
        return peak * math.pow(float(counts @ (values / peak) ** order), 1.0 / order) if peak else 0.0

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the announced l2 norm allows: itself, up to sqrt(d) times it (l1), down to 1/sqrt(d) of it (l_inf)."""
        norm, root = float(payload.scalars[1]), math.sqrt(payload.size)
        return {1: (norm, norm * root), 2: (norm, norm), math.inf: (norm / root, norm)}[order]

    def _encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        x = as_numpy(flat)
        wide = x.astype(np.float64, copy=False)
        norm = array_norm(wide)
        if norm == 0.0:
            levels = np.zeros(x.size, np.int32)
        else:
            # In float32 s/||x|| overflows, and entries lose their digits, where the norm is near the smallest normal number.
            # In float64 s/||x|| overflows there as well.
            scaled = (
                np.abs(x if norm > 1e-30 else wide) * (self.levels / norm)
                if norm > 1e-290
                else np.abs(wide) / norm * self.levels
            )
            levels = np.minimum(round_at_random(scaled, cast(np.random.Generator, rng)), self.levels)
            np.negative(levels, out=levels, where=x < 0)
        return (self._word, norm), self._write(levels + self.levels)

    def _decode(self, payload: Payload) -> Tensor:
        return self._values(payload, torch.from_numpy(self._symbols(payload) - self.levels))

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add levels times their value; what is entropy-coded is added as it is decoded, a part at a time."""
        target = out.numpy()
        for payload, weight in zip(payloads, weights, strict=True):
            # Rounded to the model's dtype first, as the client's residual has it.
            ladder = self._values(payload, torch.arange(-self.levels, self.levels + 1))
            values = ladder.to(out.dtype).mul_(weight).numpy()
            for start, symbols in self._parts(payload):
                target[start : start + symbols.size] += values[symbols]

    def _write(self, symbols: npt.NDArray[np.int32]) -> bytes:
        if self.coding == "entropy":
            coded = encode_symbols(symbols)
            if len(coded) < packed_size(symbols.size, self._width):
                return _ENTROPY + coded
        fixed = pack_uints(symbols.astype(np.uint32), self._width)
        return fixed if self.coding == "fixed" else _FIXED + fixed

    def _coded(self, payload: Payload) -> bool:
        """Whether the symbols are entropy-coded."""
        if self.coding == "fixed":
            return False
        form = payload.body[:1]
        exact = len(payload.body) == self.body_size(payload.size, payload.dtype)
        if form not in (_FIXED, _ENTROPY) or (form == _FIXED and not exact):
            raise WireError("the form of the levels must be 0 or 1, and have the length that goes with it")
        return form == _ENTROPY

    def _parts(self, payload: Payload) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
        """Yield the symbols level + s a part at a time, each with its first place."""
        if self._coded(payload):
            yield from decode_chunks(payload.body[1:], payload.size, 2 * self.levels + 1)
            return
        packed = payload.body[1:] if self.coding == "entropy" else payload.body
        yield 0, unpack_uints(packed, payload.size, self._width).astype(np.int32)

    def _symbols(self, payload: Payload) -> npt.NDArray[np.int32]:
        return np.concatenate([part for _, part in self._parts(payload)])

    def _histogram(self, payload: Payload, check: bool = False) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the levels that occur and their counts; with ``check``, raise unless the symbols are canonical."""
        if self._coded(payload):
            low, counts, _ = histogram(payload.body[1:], payload.size, 2 * self.levels + 1)
            if check:
                for _ in self._parts(payload):
                    pass
                if len(payload.body) > packed_size(payload.size, self._width):
                    raise WireError("the entropy-coded form is longer than the fixed one")
        else:
            symbols = self._symbols(payload)
            low, counts = int(symbols.min()), np.bincount(symbols - symbols.min())
            if check:
                if low + counts.size - 1 > 2 * self.levels:
                    raise WireError(f"levels must lie in [-{self.levels}, {self.levels}]")
                if not padding_is_zero(payload.body, payload.size * self._width):
                    raise WireError("padding bits must be zero")
                if self.coding == "entropy" and self._write(symbols) != payload.body:
                    raise WireError("the fixed form is longer than the entropy-coded one")
        present = np.flatnonzero(counts)
        return present + low - self.levels, counts[present]

    def _values(self, payload: Payload, levels: Tensor) -> Tensor:
        """Return levels times their unit, in the payload's dtype."""
        return levels.to(working_dtype(payload.dtype)).mul_(self._unit(payload)).to(payload.dtype)

    def _unit(self, payload: Payload) -> float:
        """Return the value of one level."""
        shrink = 1 + self.omega(payload.size) if self.contraction else 1.0
        return float(payload.scalars[1]) / self.levels / shrink

    @property
    def _width(self) -> int:
        return (2 * self.levels).bit_length()

    @property
    def _word(self) -> int:
        return self.levels << 2 | (self.coding == "entropy") << 1 | self.contraction
