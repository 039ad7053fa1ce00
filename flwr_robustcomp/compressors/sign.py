"""One bit for each coordinate: plain signs (C_normless) and signs scaled by the mean magnitude (C_norm)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bits import (
    accumulate_signs,
    pack_bits,
    packed_size,
)
from flwr_robustcomp.compressors.columns import Columns, Signs
from flwr_robustcomp.compressors.payload import DTYPES, Payload
from flwr_robustcomp.compressors.sign_bits import (
    check_padding,
    finite_rows,
    pack_sign_rows,
    pack_signs,
    packed_dots,
    sign_products,
    sign_rows,
    signs_of,
)
from flwr_robustcomp.compressors.sign_counts import SignCounts, bitmap_counts
from flwr_robustcomp.compressors.sums import magnitudes
from flwr_robustcomp.compressors.values import as_numpy, check_scale, round_to
from flwr_robustcomp.errors import WireError

__all__ = ["L1Sign", "Sign"]


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
    exact_decode = True

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
        check_padding(payload)

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return d**(1/q): every entry is +-1."""
        return 1.0 if order == math.inf else payload.size ** (1.0 / order)

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the bits."""
        return bitmap_counts(payload.body, payload.size)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add weighted signs straight from the bits; see `bits.accumulate_signs`."""
        if payloads:
            accumulate_signs(out.numpy(), [p.body for p in payloads], np.asarray(weights, np.float64))

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return d - 2 Hamming distances, straight from the bits."""
        return sign_products(payloads, chosen)

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return the signs."""
        signs = Signs(np.ones((len(payloads), 1)), (payloads[0].size,), [p.body for p in payloads])
        return replace(super().columns(payloads), signs=signs)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return <s_i, x>, straight from the bits."""
        return packed_dots(payloads, x)

    def compress_rows(self, x: Tensor, rngs: Sequence[np.random.Generator | None]) -> list[Payload]:
        """Compress k tensors with one pass over the matrix."""
        rows = finite_rows(x)
        if rows is None:
            return super().compress_rows(x, rngs)  # which names the fault
        shape = tuple(x.shape[1:])
        return [Payload(shape, x.dtype, (), body) for body in pack_sign_rows(as_numpy(rows))]

    def decompress_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Decompress k payloads with one pass over the matrix."""
        return sign_rows(payloads)

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the signs."""
        return (), pack_signs(flat)

    def decode(self, payload: Payload) -> Tensor:
        """Return the signs."""
        return signs_of(payload)


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
    exact_decode = True

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
        check_padding(payload)
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

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the bits; where the scale is zero, all entries are."""
        return bitmap_counts(payload.body, payload.size) if payload.scalars[0] else (0, payload.size, 0)

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
        return np.outer(scales, scales) * sign_products(payloads, chosen)

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return the signs and scales."""
        scales = np.array([[float(p.scalars[0])] for p in payloads])
        signs = Signs(scales, (payloads[0].size,), [p.body for p in payloads])
        return replace(super().columns(payloads), signs=signs)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return s_i <sign_i, x>, straight from the bits."""
        return np.array([float(p.scalars[0]) for p in payloads]) * packed_dots(payloads, x)

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
        return [Payload(shape, x.dtype, (s,), body) for s, body in zip(scales, pack_sign_rows(dense), strict=True)]

    def decompress_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Decompress k payloads with one pass over the matrix."""
        scales = torch.tensor([p.scalars[0] for p in payloads], dtype=torch.float64).to(payloads[0].dtype)
        return sign_rows(payloads).mul_(scales[:, None])

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the signs and the mean magnitude."""
        scale = round_to(float(magnitudes(as_numpy(flat)[None])[0] / flat.numel()), flat.dtype)
        # A mean magnitude that rounds to zero in the dtype sends nothing; error feedback, where on, keeps it all.
        return (scale,), pack_signs(flat if scale > 0 else torch.zeros_like(flat))

    def decode(self, payload: Payload) -> Tensor:
        """Return the signs times the mean magnitude."""
        return signs_of(payload).mul_(payload.scalars[0])
