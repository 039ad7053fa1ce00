"""How long crafted vectors are: against honest ones, as the server decodes them, and at most as the dtype carries."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flwr_robustcomp.simulations.attacks.base import Seen

__all__ = ["against", "carried", "decoded_at", "honest_length", "orthonormal"]

_ROOM = 2.0**-10
"""What compressors keep below the root of the largest number, for sums of squares and of up to a million terms."""


def honest_length(seen: Seen) -> float:
    """Return the median l2 norm of the honest vectors, as decoded."""
    return float(torch.linalg.vector_norm(seen.honest, dim=1).median())


def against(seen: Seen) -> Tensor:
    """Return the unit vector against the honest mean, shape (d,); zero where the mean is zero."""
    length = torch.linalg.vector_norm(seen.mean)
    return -seen.mean / length if length > 0 else torch.zeros_like(seen.mean)


def carried(length: float, dtype: torch.dtype) -> float:
    """Return a length, or the largest whose square the dtype holds with room to spare.

    A compressor that refuses a vector has the honest one sent in its place, and the attack is none.
    """
    return min(length, _ROOM * math.sqrt(torch.finfo(dtype).max))


def decoded_at(seen: Seen, rows: Tensor, length: float) -> Tensor:
    """Return rows, scaled so that the server decodes them at a length.

    Parameters
    ----------
    seen : Seen
        The round.
    rows : Tensor, shape (b, d)
        One for each colluder.
    length : float
        l2 norm of Q(row).

    Returns
    -------
    Tensor, shape (b, d)
        A row of which nothing is decoded stays as it is.

    Notes
    -----
    Q(c x) = c Q(x) for every compressor but the plain sign, where Q(c x) = Q(x) and no scale matters. A compressor shortens
    some directions more than others: a single coordinate loses a factor sqrt(d) under l1-sign, and nothing under top-k.
    """
    decoded = torch.linalg.vector_norm(seen.sent(rows), dim=1)  # (b,)
    before = torch.linalg.vector_norm(rows, dim=1)  # (b,)
    factors = torch.where(decoded > 0, length / decoded, 1.0)
    most = torch.where(before > 0, carried(math.inf, rows.dtype) / before, 1.0)
    return rows * torch.minimum(factors, most).to(rows.dtype)[:, None]


def orthonormal(seen: Seen, count: int) -> Tensor:
    """Return random unit vectors, orthogonal to each other and to the honest mean, shape (count, d).

    There are d - 1 of them at most; beyond, they repeat.
    """
    d = seen.honest.shape[1]
    room = max(1, min(count, d - 1))
    drawn = torch.from_numpy(seen.rng.standard_normal((d, room))).to(seen.honest.dtype)
    basis: Tensor = torch.linalg.qr(torch.cat([against(seen)[:, None], drawn], dim=1))[0].T  # (min(d, room + 1), d)
    rows = basis[1:] if d > 1 else basis
    return rows[torch.arange(count) % len(rows)]
