"""One bit for each coordinate: plain signs (C_normless) and signs scaled by the mean magnitude (C_norm)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bits import (
    accumulate_signs,
    hamming_distances,
    pack_bits,
    packed_size,
    padding_is_zero,
    unpack_bits,
)
from flwr_robustcomp.compressors.dots import sign_dots, widened
from flwr_robustcomp.compressors.payload import DTYPES, Payload
from flwr_robustcomp.compressors.products import RUN, scale_of
from flwr_robustcomp.compressors.sums import magnitudes
from flwr_robustcomp.compressors.values import as_numpy, check_scale, is_finite, round_to
from flwr_robustcomp.errors import WireError

__all__ = ["L1Sign", "Sign"]


def _pack(flat: Tensor) -> bytes:
    # sign(0) = +1: a third symbol would cost log2(3) bits for each entry, zero or not. `NonZeros` pays for zeros alone.
    return pack_bits(as_numpy(flat) >= 0)


def _signs(payload: Payload) -> Tensor:
    """Return the signs, shape (d,), as -1 and +1 in the payload's dtype."""
    bits = torch.from_numpy(unpack_bits(payload.body, payload.size))
    return bits.to(payload.dtype).mul_(2).sub_(1)


def _sign_products(payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None) -> npt.NDArray[np.float64]:
    """Return <s_i, s_j> = d - 2 Hamming(s_i, s_j) of packed signs, shape (m, m), straight from the bits."""
    if not payloads:
        return np.zeros((0, 0))
    d = payloads[0].size
    counted = d if chosen is None else int(np.minimum(RUN, d - RUN * chosen).sum())
    products = counted - 2.0 * hamming_distances([p.body for p in payloads], chosen)
    return np.asarray(products * scale_of(d, chosen), np.float64)


def _sign_dots(payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
    """Return <s_i, x> of packed signs, shape (m,)."""
    return sign_dots([p.body for p in payloads], widened(x), [x.numel()])[:, 0]


def _check_padding(payload: Payload) -> None:
    if not padding_is_zero(payload.body, payload.size):
        raise WireError("padding bits must be zero")


def _rows(x: Tensor) -> Tensor | None:
    """Return k tensors as rows, shape (k, d), or None unless all can be compressed."""
    if not x.numel() or x.dtype not in DTYPES.values():
        return None
    rows = x.detach().reshape(len(x), -1).cpu()
    return rows if is_finite(rows.reshape(-1)) else None


def _pack_rows(rows: npt.NDArray[np.floating]) -> list[bytes]:
    return [row.tobytes() for row in np.packbits(rows >= 0, axis=1, bitorder="little")]


def _sign_rows(payloads: Sequence[Payload]) -> Tensor:
    """Return the signs of k payloads, shape (k, d), as -1 and +1 in their dtype."""
    bitmaps = np.frombuffer(b"".join([p.body for p in payloads]), np.uint8).reshape(len(payloads), -1)  # (k, ceil(d / 8))
    bits = np.unpackbits(bitmaps, axis=1, count=payloads[0].size, bitorder="little")  # (k, d)
    return torch.from_numpy(bits).to(payloads[0].dtype).mul_(2).sub_(1)


@dataclass(frozen=True)
class Sign(Compressor):
    """Q(x) = sign(x), with sign(0) = +1.

    Parameters
    ----------
    plus_zero : bool
        Send zeros as +1, as the paper's one-bit form does. By default mods and strategies see to it that zeros stay zero
        (`NonZeros`); the payload is the same.

    Notes
    -----
    C_normless: the magnitude of x is lost, ||Q(x)||_2 = sqrt(d) for every x, so Algorithm 2 cannot use it. No delta holds for
    every x (take x small): it is not a contraction on its own. Source: Bernstein et al. 2018. The decoder enforces exact
    length and zero padding; every bitmap is in the image.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import Sign
    >>> Q = Sign()
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0])))
    tensor([ 1., -1.])
    """

    plus_zero: bool = False

    name: ClassVar[str] = "sign"
    embeds_norm: ClassVar[bool] = False
    flat: ClassVar[bool] = True

    @property
    def wants_non_zeros(self) -> bool:
        """Whether zeros are to stay zero."""
        return not self.plus_zero

    def delta(self, d: int) -> None:
        """Return None: ||sign(x) - x|| is bounded by no multiple of ||x||."""
        return None

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return ceil(d / 8)."""
        return packed_size(d)

    def check(self, payload: Payload) -> None:
        """Ask for zero padding."""
        _check_padding(payload)

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return d**(1/q): every entry is +-1."""
        return 1.0 if order == math.inf else payload.size ** (1.0 / order)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add weighted signs straight from the bits; see `bits.accumulate_signs`."""
        if payloads:
            accumulate_signs(out.numpy(), [p.body for p in payloads], np.asarray(weights, np.float64))

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return d - 2 Hamming distances, straight from the bits."""
        return _sign_products(payloads, chosen)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return <s_i, x>, straight from the bits."""
        return _sign_dots(payloads, x)

    def compress_rows(self, x: Tensor, rngs: Sequence[np.random.Generator | None]) -> list[Payload]:
        """Compress k tensors with one pass over the matrix."""
        rows = _rows(x)
        if rows is None:
            return super().compress_rows(x, rngs)  # which names the fault
        shape = tuple(x.shape[1:])
        return [Payload(shape, x.dtype, (), body) for body in _pack_rows(as_numpy(rows))]

    def decompress_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Decompress k payloads with one pass over the matrix."""
        return _sign_rows(payloads)

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the signs."""
        return (), _pack(flat)

    def decode(self, payload: Payload) -> Tensor:
        """Return the signs."""
        return _signs(payload)


@dataclass(frozen=True)
class L1Sign(Compressor):
    """Q(x) = (||x||_1 / d) sign(x), sign(0) = +1: the paper's own choice, its l1-QSGD (sections 3 and 7).

    Parameters
    ----------
    plus_zero : bool
        Send zeros as +1, as the paper's one-bit form does. By default mods and strategies see to it that zeros stay zero
        (`NonZeros`); the payload is the same.

    Notes
    -----
    Q(x) is the projection of x onto the line through sign(x): ||Q(x) - x||^2 = ||x||^2 - ||x||_1^2 / d, so
    delta(x) = ||x||_1^2 / (d ||x||_2^2) (Karimireddy et al. 2019, Lemma 8), at least 1/d for every x and equal to it for a
    single spike; about 2/pi = 0.64 for Gaussian x.

    C_norm: the scale s embeds ||x||_1 = s d. The decoder enforces exact length, zero padding, a scale that is finite,
    non-negative and exact in the dtype, and all bits set when the scale is zero. Any such payload is Q of itself.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import L1Sign
    >>> Q = L1Sign()
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0])))
    tensor([ 1.5000, -1.5000])
    """

    plus_zero: bool = False

    name: ClassVar[str] = "l1-sign"
    flat: ClassVar[bool] = True
    header: ClassVar[str] = "<d"
    projects: ClassVar[bool] = True

    @property
    def wants_non_zeros(self) -> bool:
        """Whether zeros are to stay zero."""
        return not self.plus_zero

    def delta(self, d: int) -> float:
        """Return 1/d, attained by a vector with a single non-zero entry."""
        return 1.0 / d

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return ceil(d / 8)."""
        return packed_size(d)

    def check(self, payload: Payload) -> None:
        """Ask for zero padding, an admissible scale, and positive signs where the scale is zero."""
        _check_padding(payload)
        (scale,) = payload.scalars
        check_scale(scale, payload.dtype)
        if not math.isfinite(self.norm(payload, 1)):
            raise WireError(f"the norm overflows, got a scale of {scale!r}")
        if scale == 0 and payload.body != pack_bits(np.ones(payload.size, np.bool_)):
            raise WireError("a zero scale comes with positive signs only")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return s * d**(1/q)."""
        (scale,) = payload.scalars
        return scale if order == math.inf else scale * payload.size ** (1.0 / order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the norms of the flattest and the most spiked x with ||x||_1 = s d.

        ||x||_1 = s d is known; ||x||_2 lies in [s sqrt(d), s d] and ||x||_inf in [s, s d], the left ends for x = Q(x), the
        right ends for a single spike.
        """
        (scale,) = payload.scalars
        return self.norm(payload, order), scale * payload.size

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add weighted, scaled signs straight from the bits; see `bits.accumulate_signs`."""
        if payloads:
            scaled = np.array([w * p.scalars[0] for w, p in zip(weights, payloads, strict=True)], np.float64)
            accumulate_signs(out.numpy(), [p.body for p in payloads], scaled)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return s_i s_j (d - 2 Hamming distances), straight from the bits."""
        scales = np.array([float(p.scalars[0]) for p in payloads])
        return np.outer(scales, scales) * _sign_products(payloads, chosen)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return s_i <sign_i, x>, straight from the bits."""
        return np.array([float(p.scalars[0]) for p in payloads]) * _sign_dots(payloads, x)

    def compress_rows(self, x: Tensor, rngs: Sequence[np.random.Generator | None]) -> list[Payload]:
        """Compress k tensors with one pass over the matrix."""
        if not x.numel() or x.dtype not in DTYPES.values():
            return super().compress_rows(x, rngs)  # which names the fault
        dense = as_numpy(x.detach().reshape(len(x), -1).cpu())
        means = magnitudes(dense) / dense.shape[1]
        scales = [round_to(float(mean), x.dtype) for mean in means]
        if not np.isfinite(means).all() or min(scales) == 0:  # x is not finite, or cannot be scaled like this
            return super().compress_rows(x, rngs)
        shape = tuple(x.shape[1:])
        return [Payload(shape, x.dtype, (s,), body) for s, body in zip(scales, _pack_rows(dense), strict=True)]

    def decompress_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Decompress k payloads with one pass over the matrix."""
        scales = torch.tensor([p.scalars[0] for p in payloads], dtype=torch.float64).to(payloads[0].dtype)
        return _sign_rows(payloads).mul_(scales[:, None])

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the signs and the mean magnitude."""
        scale = round_to(float(magnitudes(as_numpy(flat)[None])[0] / flat.numel()), flat.dtype)
        # A mean magnitude that rounds to zero in the dtype sends nothing; error feedback, where on, keeps it all.
        return (scale,), _pack(flat if scale > 0 else torch.zeros_like(flat))

    def decode(self, payload: Payload) -> Tensor:
        """Return the signs times the mean magnitude."""
        return _signs(payload).mul_(payload.scalars[0])
