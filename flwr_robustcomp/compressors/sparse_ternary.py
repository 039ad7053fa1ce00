"""Sparse ternary compression: the positions and signs of the k largest entries, and one magnitude."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bits import pack_bits, packed_size, padding_is_zero, unpack_bits
from flwr_robustcomp.compressors.dots import entry_dots, widened
from flwr_robustcomp.compressors.entropy import decode_ranks, encode_ranks
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.positions import Coding, check_coding, largest_size, read_positions, write_positions
from flwr_robustcomp.compressors.selection import largest_entries
from flwr_robustcomp.compressors.sign_counts import SignCounts
from flwr_robustcomp.compressors.sparse_products import Entries, sparse_products
from flwr_robustcomp.compressors.sparsity import check_sparsity, kept_of, require_fits
from flwr_robustcomp.compressors.values import as_numpy, check_scale, round_to
from flwr_robustcomp.errors import WireError

__all__ = ["SparseTernary"]

_HEAD = struct.Struct("<II")  # positive signs, and the bytes that the signs take


@dataclass(frozen=True)
class SparseTernary(Compressor):
    """Keep the k entries of largest magnitude as mu sign(x_i), mu their mean magnitude (Sattler et al. 2019).

    Parameters
    ----------
    k : int, optional
        Number of entries kept, in [1, d].
    ratio : float, optional
        Share of entries kept, in (0, 1], rounded up. Exactly one of ``k`` and ``ratio`` is given.
    coding : {"entropy", "fixed"}
        Positions and signs near their entropy, or in forms of known size.

    Notes
    -----
    ||Q(x) - x||^2 = ||x||^2 - S^2 / k with S the summed magnitude of the kept entries, so delta(x) = S^2 / (k ||x||^2), at
    least min(k/d, 1/k) for every x: let m be the smallest kept magnitude and Y = S - k m. Then ||x||^2 <= d m^2 + 2 m Y + Y^2,
    as the kept excess y_i >= 0 has sum_i y_i^2 <= Y^2 and no other entry exceeds m, while S^2 = k^2 m^2 + 2 k m Y + Y^2: term
    by term, S^2 / (k ||x||^2) >= min(k/d, 1, 1/k). C_norm: mu embeds the l1 norm of what is kept.

    Wire: k, the form and mu (rounded to the dtype); then, entropy-coded, the number of positive signs and the length of
    the signs, whichever of the bitmap and the coder's words is shorter; then the positions. The decoder enforces the
    configured k and form, canonical codes, and a mu that is finite, non-negative and exact in the dtype. Any such payload with
    mu > 0 is Q of itself; mu = 0 comes with the first k positions and positive signs.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import SparseTernary
    >>> Q = SparseTernary(k=2)
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0, 0.5])))
    tensor([ 1.5000, -1.5000,  0.0000])
    """

    k: int | None = None
    ratio: float | None = None
    coding: Coding = "entropy"

    name: ClassVar[str] = "sparse-ternary"
    sparse: ClassVar[bool] = True
    header: ClassVar[str] = "<IBd"
    projects: ClassVar[bool] = True
    exact_decode = True

    def __post_init__(self) -> None:
        check_sparsity(self.k, self.ratio)
        check_coding(self.coding)

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> SparseTernary:
        """Read k and the form."""
        return cls(k=int(scalars[0]), coding="entropy" if scalars[1] else "fixed")

    @property
    def exact_size(self) -> bool:  # type: ignore[override]
        """Whether bodies have one size: in the fixed form."""
        return self.coding == "fixed"

    def for_part(self, count: int, d: int) -> SparseTernary:
        """Keep as many of the part as of the whole, or all of it."""
        return SparseTernary(k=min(self.kept(d), count), coding=self.coding)

    def delta(self, d: int) -> float:
        """Return min(k/d, 1/k), for every x."""
        k = self.kept(d)
        return min(k / d, 1 / k)

    def kept(self, d: int) -> int:
        """Return k for vectors of d coordinates."""
        return kept_of(self.k, self.ratio, d)

    def check_size(self, d: int) -> None:
        """Ask for d >= k."""
        require_fits(self.k, d)

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of a bit for each kept entry and of its position."""
        k = self.kept(d)
        return packed_size(k) + largest_size(k, d, self.coding) + (_HEAD.size if self.coding == "entropy" else 0)

    def check(self, payload: Payload) -> None:
        """Ask for the configured k and form, an admissible magnitude, and canonical signs and positions."""
        k, coding, scale = payload.scalars
        if (k, coding) != (self.kept(payload.size), self.coding == "entropy"):
            wanted = (self.kept(payload.size), int(self.coding == "entropy"))
            raise WireError(f"k and form must be {wanted}, as configured, got {(k, coding)}")
        check_scale(scale, payload.dtype)
        if not math.isfinite(scale * payload.size):
            raise WireError(f"the scale of {payload.size} entries must leave their norms finite, got {scale!r}")
        positions, positive = self._read(payload)
        if not payload.body.startswith(self._signs(positive)):
            raise WireError("signs are not in their canonical form")
        if scale == 0 and (positions[-1] != k - 1 or not positive.all()):
            raise WireError("a zero magnitude comes with the first positions and positive signs only")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return mu k^(1/q)."""
        root = 1.0 if order == math.inf else self.kept(payload.size) ** (1.0 / order)
        return float(payload.scalars[2]) * root

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the bounds that follow from ||x_S||_1 = mu k and no dropped entry being larger than mu."""
        scale, k, d = float(payload.scalars[2]), self.kept(payload.size), payload.size
        total = scale * k
        if order == 1:
            return total, scale * d
        if order == 2:
            return scale * math.sqrt(k), math.hypot(total, scale * math.sqrt(d - k))
        return scale, total

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the kept signs; where the magnitude is zero, all entries are."""
        kept = self.kept(payload.size) if payload.scalars[2] else 0
        positive = int(self._read(payload)[1].sum()) if kept else 0
        return kept - positive, payload.size - kept, positive

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add k entries for each payload; nothing becomes dense."""
        target = out.numpy()
        for payload, weight in zip(payloads, weights, strict=True):
            positions, positive = self._read(payload)
            step = target.dtype.type(float(payload.scalars[2]) * weight)
            target[positions] += np.where(positive, step, -step)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return mu_i mu_j times the products of kept signs; see `sparse_products`."""
        scales = np.array([float(p.scalars[2]) for p in payloads])
        signs = sparse_products(self._entries, payloads, [self.kept(p.size) for p in payloads], chosen)
        return np.outer(scales, scales) * signs

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return mu_i times the sum of kept signs times x."""
        scales = np.array([float(p.scalars[2]) for p in payloads])
        return scales * entry_dots(map(self._entries, payloads), widened(x))

    def _entries(self, payload: Payload) -> Entries:
        positions, positive = self._read(payload)
        return positions, np.where(positive, np.float32(1), np.float32(-1))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the positions and signs of the k largest entries, and their mean magnitude."""
        x = as_numpy(flat)
        k, form = self.kept(x.size), int(self.coding == "entropy")
        positions = largest_entries(x, k)
        kept = x[positions]
        scale = round_to(float(np.abs(kept).mean(dtype=np.float64)), flat.dtype)
        if scale == 0:
            return (k, form, 0.0), self._body(np.arange(k), np.ones(k, np.bool_), x.size)
        return (k, form, scale), self._body(positions, kept >= 0, x.size)

    def decode(self, payload: Payload) -> Tensor:
        """Put the scale, signed, at the k positions."""
        out = torch.zeros(payload.size, dtype=payload.dtype)
        positions, positive = self._read(payload)
        signs = torch.from_numpy(np.where(positive, 1.0, -1.0)) * float(payload.scalars[2])
        out[torch.from_numpy(positions)] = signs.to(payload.dtype)
        return out

    def _body(self, positions: npt.NDArray[np.int64], positive: npt.NDArray[np.bool_], d: int) -> bytes:
        return self._signs(positive) + write_positions(positions, d, self.coding)

    def _signs(self, positive: npt.NDArray[np.bool_]) -> bytes:
        signs = pack_bits(positive)
        if self.coding == "fixed":
            return signs
        count = int(positive.sum())
        if 0 < count < positive.size:
            coded = encode_ranks(positive.astype(np.int32), np.array([positive.size - count, count]))
        else:
            coded = b""
        signs = min(signs, coded, key=len)  # equally short: the bitmap
        return _HEAD.pack(count, len(signs)) + signs

    def _read(self, payload: Payload) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the positions and which of their signs are positive, each of shape (k,)."""
        d, body = payload.size, payload.body
        k = self.kept(d)
        start, length, count = 0, packed_size(k), -1
        if self.coding == "entropy":
            if len(body) < _HEAD.size:
                raise WireError("truncated signs")
            count, length = _HEAD.unpack_from(body)
            start = _HEAD.size
        signs = body[start : start + length]
        if len(signs) != length or length > packed_size(k) or count > k:
            raise WireError("truncated or over-long signs")
        if count in (0, k) and not signs:
            positive = np.full(k, count == k)
        elif length == packed_size(k):
            if not padding_is_zero(signs, k):
                raise WireError("padding bits must be zero")
            positive = unpack_bits(signs, k).astype(np.bool_)
        elif 0 < count < k:
            positive = np.concatenate([ones for _, ones in decode_ranks(signs, np.array([k - count, count]))]).astype(np.bool_)
        else:
            raise WireError("signs that are all alike take no bytes")
        return read_positions(body[start + length :], k, d, self.coding), positive
