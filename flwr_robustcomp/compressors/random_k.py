"""Keep k entries chosen at random; the seed of the choice travels in place of the positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.dots import entry_dots, widened
from flwr_robustcomp.compressors.norms import vector_norm
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.sign_counts import SignCounts, among_zeros, dense_counts
from flwr_robustcomp.compressors.sparse_products import Entries, sparse_products
from flwr_robustcomp.compressors.sparsity import check_sparsity, kept_of, require_fits
from flwr_robustcomp.compressors.values import as_numpy, check_finite, values_from_bytes, values_to_bytes
from flwr_robustcomp.errors import WireError
from flwr_robustcomp.randomness import distinct_positions

__all__ = ["RandomK"]


@dataclass(frozen=True)
class RandomK(Compressor):
    """Keep k entries chosen uniformly at random, by count or as a share of d.

    Parameters
    ----------
    k : int, optional
        Number of entries kept, in [1, d].
    ratio : float, optional
        Share of entries kept, in (0, 1], rounded up. Exactly one of ``k`` and ``ratio`` is given.
    unbiased : bool
        Multiply the kept entries by d/k, so that E[Q(x)] = x. That form is no contraction unless k > d/2.

    Notes
    -----
    delta = k/d in expectation (Stich et al. 2018, Lemma A.1). With ``unbiased``, E||Q(x) - x||^2 = (d/k - 1) ||x||^2, hence
    delta = 2 - d/k where that is positive. E||Q(x)||^2 is proportional to ||x||^2, which is why it counts as C_norm.

    Wire: k, the form, a 64-bit seed (`randomness.distinct_positions`), and the k entries of x by ascending position,
    unscaled. The decoder enforces the configured k and finite values; any seed and values are in the image.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from flwr_robustcomp import RandomK
    >>> Q = RandomK(k=1, unbiased=True)
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0]), np.random.default_rng(0)))
    tensor([ 0., -4.])
    """

    k: int | None = None
    ratio: float | None = None
    unbiased: bool = False

    name: ClassVar[str] = "random-k"
    sparse: ClassVar[bool] = True
    header: ClassVar[str] = "<I?Q"
    randomized: ClassVar[bool] = True
    exact_decode = True
    keeps_zeros: ClassVar[bool] = True

    @property
    def projects(self) -> bool:  # type: ignore[override]
        """Whether the kept entries stay as they are."""
        return not self.unbiased

    def __post_init__(self) -> None:
        check_sparsity(self.k, self.ratio)

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> RandomK:
        """Read k and the form."""
        return cls(k=int(scalars[0]), unbiased=bool(scalars[1]))

    def delta(self, d: int) -> float | None:
        """Return k/d, or 2 - d/k for the unbiased form where positive; in expectation."""
        k = self.kept(d)
        if not self.unbiased:
            return k / d
        return 2 - d / k if 2 * k > d else None

    def kept(self, d: int) -> int:
        """Return k for vectors of d coordinates."""
        return kept_of(self.k, self.ratio, d)

    def check_size(self, d: int) -> None:
        """Ask for d >= k."""
        require_fits(self.k, d)

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return k times the size of an entry."""
        return self.kept(d) * dtype.itemsize

    def check(self, payload: Payload) -> None:
        """Ask for the configured k and for values that stay finite when scaled."""
        k = self.kept(payload.size)
        if payload.scalars[:2] != (k, self.unbiased):
            raise WireError(f"(k, unbiased) must be {(k, self.unbiased)}, as configured, got {payload.scalars[:2]}")
        check_finite(self._values(payload))

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the k values alone."""
        return vector_norm(self._values(payload), order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the norm of the kept entries and infinity: nothing is known of the others."""
        return vector_norm(values_from_bytes(payload.body, payload.dtype), order), float("inf")

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the kept entries; the others are zero."""
        return among_zeros(dense_counts(self._values(payload)), payload.size)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add k entries for each payload; nothing becomes dense."""
        for payload, weight in zip(payloads, weights, strict=True):
            out.index_add_(0, self._positions(payload), self._values(payload).to(out.dtype), alpha=weight)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Multiply kept entries; see `sparse_products`."""
        return sparse_products(self._entries, payloads, [self.kept(p.size) for p in payloads], chosen)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Multiply kept entries with those of x."""
        return entry_dots(map(self._entries, payloads), widened(x))

    def _entries(self, payload: Payload) -> Entries:
        return self._positions(payload).numpy(), as_numpy(self._values(payload))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Draw a seed, and pack the values at the k positions that follow from it."""
        seed = int(cast(np.random.Generator, rng).integers(0, 2**64, dtype=np.uint64))
        k = self.kept(flat.numel())
        positions = torch.from_numpy(distinct_positions(seed, k, flat.numel()))
        return (k, self.unbiased, seed), values_to_bytes(flat[positions])

    def decode(self, payload: Payload) -> Tensor:
        """Put the values at the positions of the seed."""
        out = torch.zeros(payload.size, dtype=payload.dtype)
        out[self._positions(payload)] = self._values(payload)
        return out

    def _positions(self, payload: Payload) -> Tensor:
        k, _, seed = payload.scalars
        return torch.from_numpy(distinct_positions(int(seed), int(k), payload.size))

    def _values(self, payload: Payload) -> Tensor:
        values = values_from_bytes(payload.body, payload.dtype)
        return values.mul_(payload.size / self.kept(payload.size)) if self.unbiased else values
