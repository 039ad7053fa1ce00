"""Indices into a net of the unit sphere, block by block: fewer than one bit a coordinate (the paper's section 3.1)."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.bits import pack_uints, packed_size, padding_is_zero, unpack_uints
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.values import as_numpy, check_scale, round_to
from flwr_robustcomp.errors import WireError, require
from flwr_robustcomp.randomness import integer_gaussians

__all__ = ["SphericalNet", "net_directions"]

_TABLE = 2**20  # entries of the table in `accumulate` and of the products in `_nearest`: 8 MB of doubles at most

_Floats = npt.NDArray[np.floating]


@functools.lru_cache(maxsize=16)
def net_directions(seed: int, bits: int, size: int) -> npt.NDArray[np.float64]:
    """Return the unit vectors v of R^size of which the net is {+v, -v}.

    Returns
    -------
    numpy.ndarray, shape (2**(bits - 1), size), or (1, 1) for size 1, float64
        First the e_i, then integers of `randomness.integer_gaussians(seed)`, row by row, divided by their norm. Integers,
        their sum of squares, a root and a division: the same numbers in every language with IEEE arithmetic.
    """
    count = 1 if size == 1 else 2 ** (bits - 1)
    drawn = integer_gaussians(seed, (count - size) * size).reshape(-1, size).astype(np.float64)
    return np.concatenate([np.eye(size), drawn / np.sqrt(np.square(drawn).sum(axis=1, keepdims=True))])


@dataclass(frozen=True)
class SphericalNet(Compressor):
    """Send, for each block of x, the index of the nearest of 2^bits points of the unit sphere, and one scale for all.

    Parameters
    ----------
    block : int
        b, coordinates in a block, in [1, 2**(bits - 1)].
    bits : int
        Bits of an index, in [1, 12]: bits / block a coordinate, by default one half.
    seed : int
        Of the net (`net_directions`), in [0, 2**64), equal on all nodes. The net itself is never sent.

    Notes
    -----
    *The paper's construction.* Section 3.1 takes an eps-net of the whole sphere of R^d with eps = sqrt(1 -
    delta), at most (1 + 2/eps)^d points, and concludes O(d log(1 - delta)) bits, o(d) for suitable delta. The logarithm is
    negative: what is meant is d log2(1 + 2 / sqrt(1 - delta)), which is never below d log2(3), since eps <= 1; small delta
    does not make it sublinear. It can be: a cap of angle arccos(sqrt(delta)) covers a share of about (1 - delta)^(d/2) of the
    sphere, so about (d/2) log2(1 / (1 - delta)) bits are enough and necessary, about d delta / (2 ln 2) for small delta, and
    sqrt(d) for delta = 1/sqrt(d) as the paper says. (The nearest multiple of a point is at 1 - cos^2, not at the distance to
    the point itself; that is the difference.) But nobody can search 2^sqrt(d) points. Nets of blocks can be searched: 2^(bits
    - 1) inner products of b terms for each.

    *What is guaranteed.* With v_b the net's point of largest inner product with the block x_b, n blocks, S = sum_b <x_b, v_b>
    and a scale c for all, ||x - Q(x)||^2 = ||x||^2 - 2 c S + n c^2, least for c = S/n, so delta(x) = S^2 / (n ||x||^2): far
    above the guarantee for vectors that are spread out (a test asks for 0.35 on Gaussian x). The net holds +-e_i, so <x_b,
    v_b> >= ||x_b||_inf >= ||x_b|| / sqrt(b), and S >= ||x|| / sqrt(b) with equality for one flat block at worst: delta >= 1 /
    (n b) for every x, which is `L1Sign`'s 1/d; `SphericalNet(1, 1)` is `L1Sign`.

    *Why c and not ||x||.* The vector ||x|| / sqrt(n) (v_1, ..., v_n) has the norm of x and twice the error where delta(x) is
    small: 2 - 2 sqrt(delta) of ||x||^2 in place of 1 - delta, no contraction below delta = 1/4. ||Q(x)|| = c sqrt(n) still
    embeds the norm (C_norm), times sqrt(delta(x)).

    *Sublinear.* bits / block falls as blocks grow, down to log2(2 b) / b at b = 2^(bits - 1), where the net is {+-e_i} alone:
    with b = sqrt(d), o(d).

    The last block of r < b coordinates has a net of R^r of its own, with the same rule; no coordinate is padded, but its index
    costs as many bits as another's. A rotation before the net was tried and left out: it helps sparse vectors, changes nothing
    for Gaussian ones, and harms heavy-tailed ones, whose blocks are close to the axes that the net holds.

    Wire: block, bits and seed, the scale c, then n codes 2 i + (inner product < 0) of ``bits`` bits. The decoder enforces the
    configured parameters, zero padding, a scale that is finite, non-negative and exact in the dtype, an index of zero in a last
    block of one coordinate, and zero codes for a zero scale. Any such payload is Q of itself.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import SphericalNet
    >>> Q = SphericalNet(block=2, bits=4)
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0, 0.0, 3.0])))
    tensor([ 1.9856, -1.5293,  0.0000,  2.5063])
    """

    block: int = 16
    bits: int = 8
    seed: int = 0

    name: ClassVar[str] = "spherical-net"
    header: ClassVar[str] = "<HBQd"
    exact_decode = True

    def __post_init__(self) -> None:
        require(isinstance(self.bits, int) and 1 <= self.bits <= 12, "bits", self.bits, "an integer in [1, 12]")
        most = 2 ** (self.bits - 1)
        fits = isinstance(self.block, int) and 1 <= self.block <= most
        require(fits, "block", self.block, f"an integer in [1, 2**(bits - 1) = {most}]")
        require(isinstance(self.seed, int) and 0 <= self.seed < 2**64, "seed", self.seed, "an integer in [0, 2**64)")

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> SphericalNet:
        """Read block, bits and seed."""
        block, bits, seed = map(int, scalars[:3])
        return cls(block=block, bits=bits, seed=seed)

    def delta(self, d: int) -> float:
        """Return 1 / (n min(b, d)) for n blocks, for every x."""
        return 1.0 / (self._blocks(d) * min(self.block, d))

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return ceil(n bits / 8) for n blocks."""
        return packed_size(self._blocks(d), self.bits)

    def check(self, payload: Payload) -> None:
        """Ask for the configured net, an admissible scale, and canonical codes."""
        wanted = (self.block, self.bits, self.seed)
        if payload.scalars[:3] != wanted:
            raise WireError(f"(block, bits, seed) must be {wanted}, as configured, got {payload.scalars[:3]}")
        scale = float(payload.scalars[3])
        check_scale(scale, payload.dtype)
        if not math.isfinite(scale * payload.size):
            raise WireError(f"the norm overflows, got a scale of {scale!r}")
        if not padding_is_zero(payload.body, self._blocks(payload.size) * self.bits):
            raise WireError("padding bits must be zero")
        codes = self._codes(payload)
        single = codes if self.block == 1 else codes[-1:] if payload.size % self.block == 1 else codes[:0]
        if (single > 1).any():
            raise WireError("a block of one coordinate has the index zero")
        if scale == 0 and codes.any():
            raise WireError("a zero scale comes with zero codes only")

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the scale and the norms of the net's points; c sqrt(n) for q = 2."""
        scale = float(payload.scalars[3])
        if order == 2:
            return scale * math.sqrt(self._blocks(payload.size))
        return scale * float(np.linalg.norm(self._point_norms(payload, order), ord=order))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what S = c n = sum_b <x_b, v_b> says of ||x||_q.

        From above, <x_b, v_b> >= ||x_b||_inf: ||x||_inf <= S, ||x||_2 <= S sqrt(b), ||x||_1 <= S b. From below by Hoelder's
        inequality, S <= ||x||_q ||(v_1, ..., v_n)||_p with 1/p + 1/q = 1.
        """
        total = float(payload.scalars[3]) * self._blocks(payload.size)
        largest = min(self.block, payload.size)
        dual = {1: math.inf, 2: 2.0, math.inf: 1.0}[order]
        spread = math.sqrt(self._blocks(payload.size))
        if order != 2:
            spread = float(np.linalg.norm(self._point_norms(payload, dual), ord=dual))
        return total / spread, total * largest ** (0.0 if order == math.inf else 1.0 / order)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add up the weights that fall on each point of the net in each block, then expand the table, once for all payloads."""
        codes = [self._codes(p) for p in payloads]
        scales = [w * float(p.scalars[3]) for w, p in zip(weights, payloads, strict=True)]
        target = out.numpy()
        for part, directions, first in self._parts(target):
            blocks, count = part.shape[0], len(directions)
            table = np.zeros(blocks * count)
            rows = np.arange(blocks) * count
            for code, scale in zip(codes, scales, strict=True):
                mine = code[first : first + blocks]
                table[rows + (mine >> 1)] += np.where(mine & 1, -scale, scale)  # one entry a row: no index comes twice
            part += table.reshape(blocks, count).astype(part.dtype) @ directions.astype(part.dtype)

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the nearest member of the net for each block, and their common scale."""
        x = as_numpy(flat)
        peak = float(np.abs(x).max())
        codes, total, unit = np.zeros(self._blocks(x.size), np.uint32), 0.0, 1.0
        if peak > 0:
            # Scaled by a power of two, exactly, no product overflows or vanishes.
            unit = 2.0 ** min(max(math.frexp(peak)[1], -126), 127)
            for part, directions, first in self._parts(x * x.dtype.type(1.0 / unit)):
                products = part @ directions.T.astype(x.dtype)  # (blocks, 2**(bits - 1))
                nearest = np.abs(products).argmax(axis=1)
                best = products[np.arange(len(part)), nearest]
                codes[first : first + len(part)] = 2 * nearest + (best < 0)
                total += float(np.abs(best).sum(dtype=np.float64))
        scale = round_to(unit * (total / len(codes)), flat.dtype)
        # A scale that rounds to zero in the dtype sends nothing; error feedback, where on, keeps it all.
        return (self.block, self.bits, self.seed, scale), pack_uints(codes if scale > 0 else np.zeros_like(codes), self.bits)

    def decode(self, payload: Payload) -> Tensor:
        """Return each block's member of the net times the scale."""
        work, codes = working_dtype(payload.dtype), self._codes(payload)
        out: _Floats = np.empty(payload.size, np.float64 if work == torch.float64 else np.float32)
        for part, directions, first in self._parts(out):
            mine = codes[first : first + len(part)]
            signed = np.where(mine & 1, -payload.scalars[3], payload.scalars[3])
            part[:] = directions[mine >> 1] * signed[:, None]
        return torch.from_numpy(out).to(payload.dtype)

    def _parts(self, x: _Floats) -> Iterator[tuple[_Floats, npt.NDArray[np.float64], int]]:
        """Yield views of x as blocks, shape (blocks, size), with the net of their size and the number of the first."""
        full = x.size // self.block
        step = max(1, _TABLE >> (self.bits - 1))
        for first in range(0, full, step):
            stop = min(first + step, full)
            view = x[first * self.block : stop * self.block].reshape(-1, self.block)
            yield view, net_directions(self.seed, self.bits, self.block), first
        if rest := x.size - full * self.block:
            yield x[-rest:].reshape(1, rest), net_directions(self.seed, self.bits, rest), full

    def _point_norms(self, payload: Payload, order: float) -> npt.NDArray[np.float64]:
        """Return the norm of each block's point, shape (n,)."""
        codes, norms = self._codes(payload), np.empty(self._blocks(payload.size))
        for part, directions, first in self._parts(np.broadcast_to(np.float64(0), (payload.size,))):
            norms[first : first + len(part)] = np.linalg.norm(directions, ord=order, axis=1)[
                codes[first : first + len(part)] >> 1
            ]
        return norms

    def _codes(self, payload: Payload) -> npt.NDArray[np.uint32]:
        return unpack_uints(payload.body, self._blocks(payload.size), self.bits)

    def _blocks(self, d: int) -> int:
        return -(-d // self.block)
