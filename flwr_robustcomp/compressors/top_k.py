"""Keep the k entries of largest magnitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars, vector_norm
from flwr_robustcomp.compressors.bits import (
    pack_bits,
    pack_uints,
    packed_size,
    padding_is_zero,
    unpack_bits,
    unpack_uints,
)
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.sparsity import check_sparsity, kept_of, require_fits
from flwr_robustcomp.compressors.values import check_finite, values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError

__all__ = ["TopK"]


@dataclass(frozen=True)
class TopK(Compressor):
    """Keep the k entries of largest magnitude, by count or as a share of d.

    Parameters
    ----------
    k : int, optional
        Number of entries kept, in [1, d].
    ratio : float, optional
        Share of entries kept, in (0, 1], rounded up. Exactly one of ``k`` and ``ratio`` is given.

    Notes
    -----
    delta = k/d for every x (Stich et al. 2018, Lemma A.1). C_norm: the kept values carry the norm implicitly (section 3).

    Wire: k, then the positions (a bitmap of d bits or k numbers of ceil(log2 d) bits, whichever is smaller for this k and d),
    then k values in the model's dtype, both by ascending position. The decoder enforces the configured k, ascending distinct
    positions below d, zero padding and finite values; every such vector has at most k entries and is therefore Q of itself.
    """

    k: int | None = None
    ratio: float | None = None

    name: ClassVar[str] = "top-k"
    header: ClassVar[str] = "<I"

    def __post_init__(self) -> None:
        check_sparsity(self.k, self.ratio)

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> TopK:
        """Read k."""
        return cls(k=int(scalars[0]))

    def delta(self, d: int) -> float:
        """Return k/d, for every x."""
        return self.kept(d) / d

    def kept(self, d: int) -> int:
        """Return k for vectors of d coordinates."""
        return kept_of(self.k, self.ratio, d)

    def check_size(self, d: int) -> None:
        """Ask for d >= k."""
        require_fits(self.k, d)

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of positions and values."""
        return self._position_size(d) + self.kept(d) * dtype.itemsize

    def check(self, payload: Payload) -> None:
        """Ask for the configured k, canonical positions and finite values."""
        d, k = payload.size, self.kept(payload.size)
        if payload.scalars[0] != k:
            raise WireError(f"k must be {k}, as configured, got {payload.scalars[0]}")
        bits = d if self._bitmap(d) else k * _width(d)
        if not padding_is_zero(payload.body[: self._position_size(d)], bits):
            raise WireError("padding bits must be zero")
        positions = self._positions(payload)
        if positions.size != k or positions[-1] >= d or bool((np.diff(positions) <= 0).any()):
            raise WireError(f"positions must be {k} ascending distinct numbers below {d}")
        check_finite(self._values(payload))

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the k values alone."""
        return vector_norm(self._values(payload), order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the bounds that follow from no dropped entry being larger than the smallest kept one."""
        kept = self.norm(payload, order)
        if order == math.inf:
            return kept, kept
        dropped = payload.size - self.kept(payload.size)
        smallest = float(self._values(payload).abs().min())
        return kept, float((kept**order + dropped * smallest**order) ** (1.0 / order))

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add k entries for each payload; nothing becomes dense."""
        for payload, weight in zip(payloads, weights, strict=True):
            positions = torch.from_numpy(self._positions(payload))
            out.index_add_(0, positions, self._values(payload).to(out.dtype), alpha=weight)

    def _encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        d, k = flat.numel(), self.kept(flat.numel())
        positions = torch.topk(flat.abs(), k, sorted=False).indices.sort().values
        index = positions.numpy()
        if self._bitmap(d):
            mask = np.zeros(d, np.bool_)
            mask[index] = True
            packed = pack_bits(mask)
        else:
            packed = pack_uints(index.astype(np.uint32), _width(d))
        return (k,), packed + values_to_bytes(flat[positions])

    def _decode(self, payload: Payload) -> Tensor:
        out = torch.zeros(payload.size, dtype=payload.dtype)
        out[torch.from_numpy(self._positions(payload))] = self._values(payload)
        return out

    def _bitmap(self, d: int) -> bool:
        return d <= self.kept(d) * _width(d)

    def _position_size(self, d: int) -> int:
        return packed_size(d) if self._bitmap(d) else packed_size(self.kept(d), _width(d))

    def _positions(self, payload: Payload) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        d = payload.size
        packed = payload.body[: self._position_size(d)]
        if self._bitmap(d):
            return np.flatnonzero(unpack_bits(packed, d))
        return unpack_uints(packed, self.kept(d), _width(d)).astype(np.int64)

    def _values(self, payload: Payload) -> Tensor:
        return values_from_bytes(payload.body[self._position_size(payload.size) :], payload.dtype)


def _width(d: int) -> int:
    """Bits of a position below d."""
    return max(1, (d - 1).bit_length())
