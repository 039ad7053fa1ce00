"""Packed signs, one bit a coordinate: what the compressors that send them share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.bits import bitmap_rows, hamming_distances, pack_bits, padding_is_zero, unpack_bits
from flwr_robustcomp.compressors.dots import sign_dots, widened
from flwr_robustcomp.compressors.payload import DTYPES, Payload
from flwr_robustcomp.compressors.products import RUN, scale_of
from flwr_robustcomp.compressors.values import as_numpy, is_finite
from flwr_robustcomp.errors import WireError

__all__ = [
    "check_padding",
    "finite_rows",
    "pack_sign_rows",
    "pack_signs",
    "packed_dots",
    "sign_products",
    "sign_rows",
    "signs_of",
]


def pack_signs(flat: Tensor) -> bytes:
    """Pack the signs of a vector, shape (d,), one bit each."""
    # sign(0) = +1: a third symbol would cost log2(3) bits for each entry, zero or not. `NonZeros` pays for zeros alone.
    return pack_bits(as_numpy(flat) >= 0)


def signs_of(payload: Payload) -> Tensor:
    """Return the signs, shape (d,), as -1 and +1 in the payload's dtype."""
    bits = torch.from_numpy(unpack_bits(payload.body, payload.size))
    return bits.to(payload.dtype).mul_(2).sub_(1)


def sign_products(payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None) -> npt.NDArray[np.float64]:
    """Return <s_i, s_j> = d - 2 Hamming(s_i, s_j) of packed signs, shape (m, m), straight from the bits."""
    if not payloads:
        return np.zeros((0, 0))
    d = payloads[0].size
    counted = d if chosen is None else int(np.minimum(RUN, d - RUN * chosen).sum())
    products = counted - 2.0 * hamming_distances([p.body for p in payloads], chosen)
    return np.asarray(products * scale_of(d, chosen), np.float64)


def packed_dots(payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
    """Return <s_i, x> of packed signs, shape (m,)."""
    return sign_dots([p.body for p in payloads], widened(x), [x.numel()])[:, 0]


def check_padding(payload: Payload) -> None:
    """Raise `WireError` unless the bits beyond the last coordinate are zero."""
    if not padding_is_zero(payload.body, payload.size):
        raise WireError("padding bits must be zero")


def finite_rows(x: Tensor) -> Tensor | None:
    """Return k tensors as rows, shape (k, d), or None unless all can be compressed."""
    if not x.numel() or x.dtype not in DTYPES.values():
        return None
    rows = x.detach().reshape(len(x), -1).cpu()
    return rows if is_finite(rows.reshape(-1)) else None


def pack_sign_rows(rows: npt.NDArray[np.floating]) -> list[bytes]:
    """Pack the signs of k vectors, shape (k, d)."""
    return [row.tobytes() for row in np.packbits(rows >= 0, axis=1, bitorder="little")]


def sign_rows(payloads: Sequence[Payload]) -> Tensor:
    """Return the signs of k payloads, shape (k, d), as -1 and +1 in their dtype."""
    bitmaps = bitmap_rows([p.body for p in payloads])
    bits = np.unpackbits(bitmaps, axis=1, count=payloads[0].size, bitorder="little")  # (k, d)
    return torch.from_numpy(bits).to(payloads[0].dtype).mul_(2).sub_(1)
