"""Keep the k entries of largest magnitude."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.dots import entry_dots, widened
from flwr_robustcomp.compressors.identity import Identity
from flwr_robustcomp.compressors.nested import nest, nested_compressor, unnest
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.positions import Coding, check_coding, largest_size, read_positions, write_positions
from flwr_robustcomp.compressors.selection import largest_entries
from flwr_robustcomp.compressors.sign_counts import SignCounts, among_zeros
from flwr_robustcomp.compressors.sparse_products import Entries, sparse_products
from flwr_robustcomp.compressors.sparsity import check_sparsity, check_values, kept_of, require_fits
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import WireError

__all__ = ["TopK"]

_LENGTH = struct.Struct("<I")
_CODINGS: dict[bool, Coding] = {False: "fixed", True: "entropy"}


@dataclass(frozen=True)
class TopK(Compressor):
    """Keep the k entries of largest magnitude, by count or as a share of d.

    Parameters
    ----------
    k : int, optional
        Number of entries kept, in [1, d].
    ratio : float, optional
        Share of entries kept, in (0, 1], rounded up. Exactly one of ``k`` and ``ratio`` is given.
    values : Compressor
        What the kept entries go through, as they are by default.
    coding : {"entropy", "fixed"}
        Positions near log2 C(d, k) bits, or in a form of known size that is faster to write and to read.

    Notes
    -----
    delta = k/d for every x (Stich et al. 2018, Lemma A.1), times the delta of ``values`` on k entries: with x_S the kept part,
    Q(x) lies in the same k places and ||Q(x) - x||^2 = ||x - x_S||^2 + ||Q(x_S) - x_S||^2 <= ||x||^2 - delta_values ||x_S||^2.
    C_norm as far as ``values`` is: the kept entries carry the norm implicitly (section 3).

    Wire: k and the coding; the length of the positions, only if composed; the positions; the header and body of ``values`` on
    the k entries by ascending position. The codec is ``top-k``, or ``top-k+`` and that of ``values``. The
    decoder enforces the configured k and coding, canonical positions, and what ``values`` enforces; such a vector has at most k
    entries and is therefore Q of itself.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import TopK
    >>> Q = TopK(k=1)
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0, 0.5])))
    tensor([ 0., -2.,  0.])
    """

    k: int | None = None
    ratio: float | None = None
    values: Compressor = field(default_factory=Identity)
    coding: Coding = "entropy"

    name: ClassVar[str] = "top-k"
    sparse: ClassVar[bool] = True
    version: ClassVar[int] = 2
    header: ClassVar[str] = "<IB"

    def __post_init__(self) -> None:
        check_sparsity(self.k, self.ratio)
        check_values(self.values)
        check_coding(self.coding)

    @property
    def codec(self) -> str:
        """``top-k``, or ``top-k+`` and the codec of ``values``."""
        return f"{self.name}+{self.values.codec}" if self._composed else self.name

    @property
    def projects(self) -> bool:  # type: ignore[override]
        """Whether ``values`` projects: <x, Q(x)> = <x_S, Q(x_S)>."""
        return self.values.projects

    @property
    def randomized(self) -> bool:  # type: ignore[override]
        """Whether ``values`` draws."""
        return self.values.randomized

    @property
    def embeds_norm(self) -> bool:  # type: ignore[override]
        """Whether ``values`` does."""
        return self.values.embeds_norm

    @property
    def pointwise(self) -> bool:
        """Whether the delta of ``values`` is."""
        return self.values.pointwise

    @property
    def exact_decode(self) -> bool:  # type: ignore[override]
        """Whether that of ``values`` is."""
        return self.values.exact_decode

    @property
    def exact_size(self) -> bool:  # type: ignore[override]
        """Whether bodies have one size: in the fixed form, if those of ``values`` have."""
        return self.coding == "fixed" and self.values.exact_size

    @property
    def keeps_zeros(self) -> bool:  # type: ignore[override]
        """Whether ``values`` does: with fewer than k entries that are not zero, some that are zero are kept."""
        return self.values.keeps_zeros

    @classmethod
    def from_payload(cls, scalars: Scalars, body: bytes, inner: Sequence[type[Compressor]]) -> TopK:
        """Read k and the coding, and the parameters of ``values`` behind the positions."""
        k, coding = int(scalars[0]), _CODINGS[bool(scalars[1])]
        if not inner:
            return cls(k=k, coding=coding)
        if len(body) < _LENGTH.size:
            raise WireError("truncated positions")
        start = _LENGTH.size + int(_LENGTH.unpack_from(body)[0])
        return cls(k=k, values=nested_compressor(body[start:], inner), coding=coding)

    @property
    def _composed(self) -> bool:
        return not isinstance(self.values, Identity)

    def for_round(self, round_: int) -> TopK:
        """Return this compressor with the ``values`` of a round."""
        values = self.values.for_round(round_)
        return self if values is self.values else TopK(self.k, self.ratio, values, self.coding)

    def for_part(self, count: int, d: int) -> TopK:
        """Keep as many of the part as of the whole, or all of it."""
        return TopK(k=min(self.kept(d), count), values=self.values, coding=self.coding)

    def delta(self, d: int) -> float | None:
        """Return k/d times the delta of ``values`` on k entries."""
        k = self.kept(d)
        inner = self.values.delta(k)
        return None if inner is None else k / d * inner

    def kept(self, d: int) -> int:
        """Return k for vectors of d coordinates."""
        return kept_of(self.k, self.ratio, d)

    def check_size(self, d: int) -> None:
        """Ask for d >= k, and for enough kept entries for ``values``."""
        require_fits(self.k, d)
        self.values.check_size(self.kept(d))

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the bytes of positions and values."""
        k = self.kept(d)
        length = _LENGTH.size if self._composed else 0
        return length + largest_size(k, d, self.coding) + self.values.encoded_size(k, dtype)

    def largest_body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the most bytes for d coordinates or fewer."""
        k = self.kept(d)
        return self.body_size(d, dtype) - self.values.body_size(k, dtype) + self.values.largest_body_size(k, dtype)

    def check(self, payload: Payload) -> None:
        """Ask for the configured k and coding, canonical positions and admissible values."""
        wanted = (self.kept(payload.size), int(self.coding == "entropy"))
        if payload.scalars != wanted:
            raise WireError(f"k and coding must be {wanted}, as configured, got {payload.scalars}")
        self._positions(payload)
        self.values.check(self._inner(payload))

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q from the k values alone."""
        return self.values.norm(self._inner(payload), order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the bounds that follow from no dropped entry being larger than the smallest kept one."""
        low, high = self.values.norm_bounds(self._inner(payload), order)
        if order == math.inf:
            return low, high
        k = self.kept(payload.size)
        if isinstance(self.values, Identity):
            smallest = float(self.values.decompress(self._inner(payload)).abs().min())
        else:
            smallest = high / k ** (1.0 / order)  # the smallest of k entries is at most their mean in the norm's sense
        rest = smallest * (payload.size - k) ** (1.0 / order)
        return low, high + rest if order == 1 else math.hypot(high, rest)

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the kept entries as ``values`` does; the others are zero."""
        return among_zeros(self.values.sign_counts(self._inner(payload)), payload.size)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add k entries for each payload; nothing becomes dense."""
        for payload, weight in zip(payloads, weights, strict=True):
            entries = torch.zeros(self.kept(payload.size), dtype=out.dtype)
            self.values.accumulate(entries, [self._inner(payload)], [weight])
            out.index_add_(0, torch.from_numpy(self._positions(payload)), entries)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Multiply kept entries; see `sparse_products`."""
        return sparse_products(self._entries, payloads, [self.kept(p.size) for p in payloads], chosen)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Multiply kept entries with those of x."""
        return entry_dots(map(self._entries, payloads), widened(x))

    def _entries(self, payload: Payload) -> Entries:
        return self._positions(payload), as_numpy(self.values.decompress(self._inner(payload)))

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the positions of the k largest entries, and their values through ``values``."""
        d, k = flat.numel(), self.kept(flat.numel())
        index = largest_entries(as_numpy(flat), k)
        positions = write_positions(index, d, self.coding)
        values = nest(self.values.compress(flat[torch.from_numpy(index)], rng), self.values)
        length = _LENGTH.pack(len(positions)) if self._composed else b""
        return (k, int(self.coding == "entropy")), length + positions + values

    def decode(self, payload: Payload) -> Tensor:
        """Put the values at their positions."""
        out = torch.zeros(payload.size, dtype=payload.dtype)
        out[torch.from_numpy(self._positions(payload))] = self.values.decompress(self._inner(payload))
        return out

    def _positions(self, payload: Payload) -> npt.NDArray[np.int64]:
        start, stop = self._span(payload)
        return read_positions(payload.body[start:stop], self.kept(payload.size), payload.size, self.coding)

    def _inner(self, payload: Payload) -> Payload:
        """Return the payload of the k kept entries."""
        _, stop = self._span(payload)
        return unnest(payload.body[stop:], self.values, (self.kept(payload.size),), payload.dtype)

    def _span(self, payload: Payload) -> tuple[int, int]:
        """Return where in the body the positions start and stop."""
        k = self.kept(payload.size)
        if not self._composed:
            return 0, max(0, len(payload.body) - self.values.encoded_size(k, payload.dtype))
        if len(payload.body) < _LENGTH.size:
            raise WireError("truncated positions")
        return _LENGTH.size, _LENGTH.size + int(_LENGTH.unpack_from(payload.body)[0])
