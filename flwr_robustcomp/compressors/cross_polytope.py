"""A few vertices of a cross-polytope: o(d) bits, without bias."""

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
from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import WireError, require

__all__ = ["CrossPolytope"]


@dataclass(frozen=True)
class CrossPolytope(Compressor):
    """Send ||x||_1 and ``repetitions`` vertices +-e_i, drawn with probability |x_i| / ||x||_1 and the sign of x_i (vqSGD).

    Parameters
    ----------
    repetitions : int
        R, how many vertices are drawn and averaged, in [1, 2**31).
    contraction : bool
        Divide by 1 + omega. Without it Q is unbiased; with it Q is a contraction for every d and R.

    Notes
    -----
    Any x is a convex combination of the vertices of a cross-polytope that holds it; a vertex drawn by its weights has x as its
    mean (Gandikota et al. 2019). That paper takes the radius sqrt(d) ||x||_2, which holds every x of that norm; the smallest
    cross-polytope that holds this one has the radius ||x||_1 <= sqrt(d) ||x||_2, and a smaller radius has less variance:

        E||Q(x) - x||^2 = (||x||_1^2 - ||x||_2^2) / R <= omega ||x||^2,  omega = (d - 1) / R,

    with equality for flat x and no error at all for a single spike. delta = 1 - omega where that is positive, or, divided by
    1 + omega, 1 / (1 + omega) = R / (R + d - 1), as for `QSGD`.

    Wire: R and the form in one word, ||x||_1 in double precision, then R codes 2 i + (x_i < 0) of ceil(log2 2d) bits,
    ascending: R log2(2d) bits, the o(d) of section 3.1. C_norm. The decoder enforces the configured R and form, a finite
    non-negative norm, codes below 2 d in ascending order without both signs of one coordinate, zero codes for a zero norm,
    and entries that do not overflow. Any such payload is one draw of the x that it decodes to in the unbiased form.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from flwr_robustcomp import CrossPolytope
    >>> Q = CrossPolytope(repetitions=2, contraction=False)
    >>> Q.decompress(Q.compress(torch.tensor([0.0, -3.0, 1.0]), np.random.default_rng(0)))
    tensor([ 0., -4.,  0.])
    """

    repetitions: int = 1
    contraction: bool = True

    name: ClassVar[str] = "cross-polytope"
    sparse: ClassVar[bool] = True
    keeps_zeros: ClassVar[bool] = True
    header: ClassVar[str] = "<Id"
    randomized: ClassVar[bool] = True
    exact_decode = True

    def __post_init__(self) -> None:
        count = self.repetitions
        require(isinstance(count, int) and 1 <= count < 2**31, "repetitions", count, "an integer in [1, 2**31)")

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> CrossPolytope:
        """Read R and the form."""
        return cls(repetitions=int(scalars[0]) >> 1, contraction=bool(int(scalars[0]) & 1))

    @property
    def unbiased(self) -> bool:
        """Whether the form without division is chosen."""
        return not self.contraction

    def omega(self, d: int) -> float:
        """Return the variance factor (d - 1)/R of the unbiased form."""
        return (d - 1) / self.repetitions

    def delta(self, d: int) -> float | None:
        """Return R/(R + d - 1), or 1 - omega for the unbiased form where positive; in expectation."""
        omega = self.omega(d)
        if self.contraction:
            return 1 / (1 + omega)
        return 1 - omega if omega < 1 else None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return ceil(R * ceil(log2 2d) / 8)."""
        return packed_size(self.repetitions, _width(d))

    def check(self, payload: Payload) -> None:
        """Ask for the configured R and form, an admissible norm, and ascending codes of different coordinates."""
        word, norm = payload.scalars
        if word != self._word:
            raise WireError(f"parameter word must be {self._word} (repetitions={self.repetitions}), got {word}")
        if not math.isfinite(norm * payload.size) or math.copysign(1.0, norm) < 0:
            raise WireError(f"the norm must be finite and non-negative, got {norm!r}")
        if not padding_is_zero(payload.body, self.repetitions * _width(payload.size)):
            raise WireError("padding bits must be zero")
        codes = self._codes(payload)
        steps = np.diff(codes)
        if (steps < 0).any() or codes[-1] >= 2 * payload.size or ((steps == 1) & (codes[1:] % 2 == 1)).any():
            raise WireError(f"codes must ascend below {2 * payload.size} and give each coordinate one sign")
        if norm == 0 and codes[-1] > 0:
            raise WireError("a zero norm comes with zero codes only")
        if not bool(torch.isfinite(self._entries(payload)[1]).all()):
            raise WireError(f"an entry overflows {payload.dtype}")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the drawn entries alone."""
        _, counts = np.unique(self._codes(payload), return_counts=True)
        return self._unit(payload) * float(np.linalg.norm(counts.astype(np.float64), ord=order))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the announced l1 norm allows: itself, down to 1/sqrt(d) of it (l2) or 1/d of it (l_inf)."""
        norm = float(payload.scalars[1])
        return norm / payload.size ** (1.0 if order == math.inf else 1.0 - 1.0 / order), norm

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add at most R entries for each payload; nothing becomes dense."""
        for payload, weight in zip(payloads, weights, strict=True):
            positions, values = self._entries(payload)
            out.index_add_(0, positions, values.to(out.dtype), alpha=weight)

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Draw coordinates with probability in proportion to their magnitude, and pack them with their signs."""
        x = as_numpy(flat).astype(np.float64, copy=False)
        # In units of the largest entry: the sum of d entries near the end of the range of a double overflows.
        peak = float(np.abs(x).max())
        upto = np.cumsum(np.abs(x) / peak) if peak > 0 else np.zeros(x.size)
        draws = cast(np.random.Generator, rng).random(self.repetitions) * upto[-1]
        # An entry of zero leaves the sum as it is, and from the right is never found; a product that is rounded up to the whole
        # sum belongs to the last entry that is not zero.
        positions = np.minimum(np.searchsorted(upto, draws, side="right"), np.searchsorted(upto, upto[-1]))
        codes = np.sort(2 * positions + (x[positions] < 0))
        return (self._word, peak * float(upto[-1])), pack_uints(codes.astype(np.uint32), _width(x.size))

    def decode(self, payload: Payload) -> Tensor:
        """Return, at each drawn coordinate, the unit times the number of its draws."""
        out = torch.zeros(payload.size, dtype=payload.dtype)
        positions, values = self._entries(payload)
        out[positions] = values
        return out

    def _entries(self, payload: Payload) -> tuple[Tensor, Tensor]:
        """Return the drawn positions, ascending and distinct, and the entries of Q(x) there, in the payload's dtype."""
        codes, counts = np.unique(self._codes(payload), return_counts=True)
        values = self._unit(payload) * np.where(codes % 2 == 1, -counts, counts)
        return torch.from_numpy(codes // 2), torch.from_numpy(values).to(payload.dtype)

    def _codes(self, payload: Payload) -> npt.NDArray[np.int64]:
        return unpack_uints(payload.body, self.repetitions, _width(payload.size)).astype(np.int64)

    def _unit(self, payload: Payload) -> float:
        """Return what one drawn vertex adds to its entry."""
        shrink = 1 + self.omega(payload.size) if self.contraction else 1.0
        return float(payload.scalars[1]) / self.repetitions / shrink

    @property
    def _word(self) -> int:
        return self.repetitions << 1 | self.contraction


def _width(d: int) -> int:
    """Bits of a code below 2 d."""
    return (2 * d - 1).bit_length()
