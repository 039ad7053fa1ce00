"""Matrices as products of two thin factors: k-PCA, its unbiased form, and subspace iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.factorization import atomic_sample, live_factors, subspace_iteration, truncated_svd
from flwr_robustcomp.compressors.norms import in_units
from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.values import values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError, require

__all__ = ["LowRank"]

Method = Literal["svd", "atomo", "power"]

_METHODS: tuple[Method, ...] = get_args(Method)

_STACKED = 2**22  # entries of the factors that `accumulate` stacks at a time: 16 MB of float32


@dataclass(frozen=True)
class LowRank(Compressor):
    """Send a matrix as P Q^T with r columns in each factor.

    Parameters
    ----------
    rank : int
        r, in [1, min(n, c)] for every array, read as a matrix of its first dimension n by all others c.
    method : {"svd", "atomo", "power"}
        The r largest singular directions (k-PCA, section 3), r directions at random without bias (Wang et al. 2018), or a
        random subspace refined by ``iterations`` (Vogels et al. 2019), which is far cheaper than an SVD.
    iterations : int
        Of "power", in [1, 255].

    Notes
    -----
    Of use with ``granularity="array"`` only, which mods and strategies insist on: a whole model is one flat vector. A model has
    arrays that are no matrices too. `Packing` sends these as they are, and `ByShape` names another compressor for them. With
    q = min(n, c),

    - svd: delta = r/q for every X (`truncated_svd`);
    - power: delta = r/q in expectation over the start, which each client draws for itself (`subspace_iteration`). The factors
      that Vogels et al. average between the two half-steps would let a Byzantine client in before any norm is looked at, so
      nothing is averaged but the products of accepted clients, and nothing is kept between rounds;
    - atomo: unbiased, omega = q/r - 1, delta = 2 - q/r where positive, in expectation (`atomic_sample`).

    Rows and columns of zeros are left out before a matrix is factored, and stay zero to the bit. A zero among other entries of
    its row and column gets a value, as every entry does.

    Wire: r, the method and the iterations; then P (n x r) and Q (c x r), row by row, in the model's dtype: (n + c) r entries.
    C_norm. The decoder enforces the configured parameters, finite factors, P with orthonormal columns to the dtype's rounding,
    and entries that do not overflow; every matrix of rank r or less is in the image of all three methods. Norms come from the
    r x r Gram matrices of both factors, so no freedom is left in P that would move the norm away from what is added.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import LowRank
    >>> Q, x = LowRank(rank=1), torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    >>> torch.allclose(Q.decompress(Q.compress(x)), x)
    True
    """

    rank: int
    method: Method = "svd"
    iterations: int = 1

    name: ClassVar[str] = "low-rank"
    version: ClassVar[int] = 2
    header: ClassVar[str] = "<HBB"
    wants_matrices: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(isinstance(self.rank, int) and 1 <= self.rank < 2**16, "rank", self.rank, "an integer in [1, 2**16)")
        require(self.method in _METHODS, "method", self.method, f"one of {', '.join(_METHODS)}")
        count = self.iterations
        require(isinstance(count, int) and 1 <= count <= 255, "iterations", count, "an integer in [1, 255]")

    @property
    def randomized(self) -> bool:  # type: ignore[override]
        """Whether the method draws."""
        return self.method != "svd"

    @property
    def unbiased(self) -> bool:
        """Whether the method is "atomo"."""
        return self.method == "atomo"

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> LowRank:
        """Read the parameters."""
        rank, method, iterations = map(int, scalars)
        if method >= len(_METHODS):
            raise WireError(f"method must be below {len(_METHODS)}, got {method}")
        return cls(rank, _METHODS[method], iterations)

    # -- mathematics ------------------------------------------------------------------------------------------------------

    def delta(self, d: int) -> float | None:
        """Return that of a matrix of d rows and one column."""
        return self.delta_of((d,))

    def delta_of(self, shape: Sequence[int]) -> float | None:
        """Return r/q, or 2 - q/r for "atomo" where positive."""
        share = min(1.0, self.rank / min(_sides(shape)))
        if self.method != "atomo":
            return share
        return 2 - 1 / share if share > 0.5 else None

    def check_shape(self, shape: Sequence[int]) -> None:
        """Ask for r <= min(n, c)."""
        smaller = min(_sides(shape))
        require(
            self.rank <= smaller, "rank", self.rank, f"in [1, {smaller}], the smaller side of an array of shape {tuple(shape)}"
        )

    # -- packing ----------------------------------------------------------------------------------------------------------

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return that of a matrix of d rows and one column."""
        return self.body_size_of((d,), dtype)

    def body_size_of(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Return (n + c) r times the size of an entry."""
        return sum(_sides(shape)) * self.rank * dtype.itemsize

    def check(self, payload: Payload) -> None:
        """Ask for the configured header, and for finite factors, the first orthonormal."""
        wanted = (self.rank, _METHODS.index(self.method), self.iterations)
        if payload.scalars != wanted:
            raise WireError(f"(rank, method, iterations) must be {wanted}, as configured, got {payload.scalars}")
        if len(payload.body) != self.body_size_of(payload.shape, payload.dtype):
            raise WireError("factors must have exactly their length")
        p, q = (factor.double() for factor in self._factors(payload))
        if not bool(torch.isfinite(p).all() and torch.isfinite(q).all()):
            raise WireError("a factor has NaN or inf")
        # Rounding to the dtype moves an inner product of unit vectors by eps; the factorisation adds a few of its own.
        slack = 2 * torch.finfo(payload.dtype).eps + 64 * torch.finfo(working_dtype(payload.dtype)).eps
        if float((p.T @ p - torch.eye(self.rank, dtype=torch.float64)).abs().max()) > slack:
            raise WireError("the first factor must have orthonormal columns")
        with np.errstate(over="ignore"):
            finite = bool(torch.isfinite(self.decode(payload)).all()) and math.isfinite(self.norm(payload))
        if not finite:
            raise WireError(f"an entry overflows {payload.dtype}, or the norm does")

    def encode_array(self, array: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the factors."""
        header = (self.rank, _METHODS.index(self.method), self.iterations)
        x = array.reshape(_sides(array.shape)).to(working_dtype(array.dtype))
        peak = float(x.abs().max()) or 1.0
        x = x / peak  # so that no square overflows or vanishes
        p, q = live_factors(x, self.rank, lambda live, rank: self._factored(live, rank, rng))
        largest = torch.finfo(array.dtype).max
        return header, values_to_bytes(torch.cat([p, (q * peak).clamp(-largest, largest)]).to(array.dtype).reshape(-1))

    def _factored(self, x: Tensor, rank: int, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        if self.method == "svd":
            return truncated_svd(x, rank)
        if self.method == "atomo":
            return atomic_sample(x, rank, cast(np.random.Generator, rng))
        return subspace_iteration(x, rank, self.iterations, cast(np.random.Generator, rng))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack a matrix of d rows and one column."""
        return self.encode_array(flat, rng)

    def decode(self, payload: Payload) -> Tensor:
        """Multiply the factors."""
        work = working_dtype(payload.dtype)
        p, q = self._factors(payload)
        return (p.to(work) @ q.to(work).T).to(payload.dtype).reshape(-1)

    def _factors(self, payload: Payload) -> tuple[Tensor, Tensor]:
        """Return P and Q, shapes (n, r) and (c, r), in the payload's dtype."""
        rows = values_from_bytes(payload.body, payload.dtype).reshape(-1, self.rank)  # (n + c, r)
        n, c = _sides(payload.shape)
        return rows[:n], rows[n : n + c]

    # -- what the server asks of packed matrices --------------------------------------------------------------------------

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(X)||_q of all entries; for q = 2 as sqrt(tr(P^T P Q^T Q))."""
        if order != 2:
            return super().norm(payload, order)
        p, q = (factor.double() for factor in self._factors(payload))
        q, peak = in_units(q)
        return peak * math.sqrt(max(0.0, float(((p.T @ p) * (q.T @ q)).sum())))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return what the factors say of ||X||_q.

        svd: the other q - r singular values are at most the smallest that was sent. power: ||X|| >= ||P^T X||, no more.
        atomo: the values that were sent add up to the nuclear norm of X, whatever was drawn, because those below probability
        one are sent as (their sum) / (number of draws left for them); and ||X|| lies between it and 1 / sqrt(min(n, c)) of
        it.
        """
        smaller, root = min(_sides(payload.shape)), math.sqrt(payload.size)
        low, high = self.norm(payload, 2), math.inf
        if self.method != "power":
            q = self._factors(payload)[1].double()
            sent = torch.linalg.svdvals(q)
            if self.method == "svd":
                high = math.hypot(low, math.sqrt(smaller - self.rank) * float(sent.min()))
            else:
                high = float(sent.sum())
                low = high / math.sqrt(smaller)
        return {1: (low, high * root), 2: (low, high), math.inf: (low / root, high)}[order]

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add products of stacked factors, as many clients at a time as fit into `_STACKED` entries."""
        if not payloads:
            return
        shape = payloads[0].shape
        group = max(1, _STACKED // (sum(_sides(shape)) * self.rank))
        for start in range(0, len(payloads), group):
            factors = [self._factors(p) for p in payloads[start : start + group]]
            left = torch.cat([p.to(out.dtype) for p, _ in factors], dim=1)  # (n, group * r)
            right = [q.to(out.dtype) * w for (_, q), w in zip(factors, weights[start : start + group], strict=True)]
            out.view(_sides(shape)).addmm_(left, torch.cat(right, dim=1).T)


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    """Return n and c of an array that is read as a matrix."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)
