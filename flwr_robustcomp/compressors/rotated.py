"""What the compressors that work in a rotated basis share: the seed, the round, and going there and back."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.columns import Columns
from flwr_robustcomp.compressors.dots import dense_dots, widened
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.products import dense_products
from flwr_robustcomp.compressors.rotation import block_sizes, largest_block, rotate, unrotate
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import WireError, require

__all__ = ["Rotated"]

_COMFORTABLE = (1e-30, 1e30)
"""Peaks of float32 vectors whose rotation neither overflows nor loses digits in float32; others are rotated in float64."""


@dataclass(frozen=True, kw_only=True)
class Rotated(Compressor):
    """Base of compressors of R x, with R the Hadamard rotation of (seed, round) that all nodes share.

    Parameters
    ----------
    seed : int
        Of the rotation, in [0, 2**64), equal on all nodes.

    Attributes
    ----------
    round_ : int
        The server round, set by `for_round` alone; 0 outside of rounds.

    Notes
    -----
    Because the rotation is shared, the server adds packed vectors in the rotated basis and rotates back once a round, whatever
    the number of clients; and <R x, R y> = <x, y> gives l2 norms and inner products without rotating at all. All this is why
    the seed belongs to the round and not to the client. What holds in expectation over R holds for every x that was chosen
    without knowing this round's R: an honest update depends on earlier rounds only; a Byzantine node can know R and choose an
    x that compresses badly, which harms its own update alone.

    The server's sum holds the clients' vectors before they are rounded to the model's dtype, which in float16 and bfloat16 is
    one rounding less than each client's own Q(x).
    """

    seed: int = 0
    round_: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        require(isinstance(self.seed, int) and 0 <= self.seed < 2**64, "seed", self.seed, "an integer in [0, 2**64)")

    def for_round(self, round_: int) -> Self:
        """Return this compressor with the rotation of a round."""
        require(0 <= round_ < 2**32, "round", round_, "in [0, 2**32)")
        if round_ == self.round_:
            return self
        other = copy.copy(self)
        object.__setattr__(other, "round_", round_)
        return other

    @property
    def pointwise(self) -> bool:
        """False: `delta` holds in expectation over the rotation."""
        return False

    def largest_body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the most bytes for d coordinates or fewer; fewer can make more blocks, as 3 = 2 + 1 against 4."""
        # The most blocks below d have the numbers that end in ones: a bit of d is cleared, and all lower ones are set.
        ends = (((d >> i) << i) - 1 for i in range(1, largest_block(d).bit_length() + 1))
        return max(self.body_size(n, dtype) for n in (d, *ends) if n > 0)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return <R Q_i, R Q_j> = <Q_i, Q_j>: nothing is rotated back; a sketch takes runs of rotated coordinates.

        The payloads must be of one rotation, which `check` asks of each.
        """
        return dense_products(self._rotated_rows, payloads, chosen)

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return the vectors in the rotated basis."""
        return Columns(payloads, payloads[0].size, self._rotated_rows, self._to_model)

    def _to_model(self, y: Tensor) -> Tensor:
        return torch.from_numpy(self._rotate_out(as_numpy(y)))

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return <R Q_i, R x> = <Q_i, x>: x is rotated once, and no payload is rotated back."""
        return dense_dots(map(self._rotated, payloads), self._widely_rotated(x))

    def _widely_rotated(self, x: Tensor) -> npt.NDArray[np.float64]:
        """Return R x, shape (d,), in double precision."""
        return self._rotate(widened(x)).astype(np.float64, copy=False)

    def _rotated_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Return R Q(x) of k payloads as rows, shape (k, d)."""
        return torch.from_numpy(np.stack([self._rotated(payload) for payload in payloads]))

    def _sizes(self, d: int) -> tuple[int, ...]:
        """Return the sizes of the blocks that have scalars of their own."""
        return block_sizes(d)

    def _starts(self, d: int) -> npt.NDArray[np.int64]:
        """Return the first coordinate of each block."""
        sizes = np.array(self._sizes(d), np.int64)
        return np.cumsum(sizes) - sizes

    def _rotate_in(self, flat: Tensor) -> npt.NDArray[np.floating]:
        """Return R x, shape (d,), in working precision, or in float64 where float32 has no room."""
        x = as_numpy(flat)
        peak = float(np.abs(x).max())
        return self._rotate(x if _COMFORTABLE[0] < peak < _COMFORTABLE[1] else x.astype(np.float64, copy=False))

    def _rotate(self, x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return rotate(x, self.seed, self.round_)

    def _rotate_out(self, y: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return unrotate(y, self.seed, self.round_)

    def _rotated(self, payload: Payload) -> npt.NDArray[np.floating]:
        """Return R Q(x), shape (d,), in working precision."""
        raise NotImplementedError

    def decode(self, payload: Payload) -> Tensor:
        """Rotate back what the payload says in the rotated basis."""
        return torch.from_numpy(self._rotate_out(self._rotated(payload))).to(payload.dtype)

    def _check_header(self, payload: Payload, word: int, meaning: str) -> None:
        """Ask for the configured seed, the current round and the configured parameters."""
        wanted: Scalars = (self.seed, self.round_, word)
        if payload.scalars != wanted:
            raise WireError(f"(seed, round, {meaning}) must be {wanted}, as configured, got {payload.scalars}")

    def _check_range(self, payload: Payload, bound: float) -> None:
        """Ask for finite entries and a finite norm, given a bound of the entries, which are looked at where it is too large."""
        with np.errstate(over="ignore", invalid="ignore"):
            fits = bound <= torch.finfo(payload.dtype).max or bool(torch.isfinite(self.decode(payload)).all())
            if not fits or not math.isfinite(self.norm(payload)):
                raise WireError(f"an entry overflows {payload.dtype}, or the norm does")
