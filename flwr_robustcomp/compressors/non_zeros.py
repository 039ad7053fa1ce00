"""Zeros stay zero: the non-zero entries go through another compressor, and the places of the others travel with them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.as_values import AsValues
from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.columns import Columns
from flwr_robustcomp.compressors.nested import Unspoken, check_length, no_scalars
from flwr_robustcomp.compressors.non_zero_columns import OneSupport, joined
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.products import dense_products
from flwr_robustcomp.compressors.sign import L1Sign
from flwr_robustcomp.compressors.sign_counts import SignCounts, among_zeros
from flwr_robustcomp.compressors.support import Shape, largest_support, read_support, write_support
from flwr_robustcomp.compressors.values import as_numpy
from flwr_robustcomp.errors import WireError, require

__all__ = ["NonZeros"]

_LENGTH = "<I"
_Group = tuple[list[int], npt.NDArray[np.bool_] | None, Compressor, list[Payload]]


@dataclass(frozen=True)
class NonZeros(AsValues):
    """Compress the entries that are not zero with another compressor, and leave the zeros as they are.

    Client mods and strategies put it around every compressor that would give zeros a value (`keeping_zeros`): sign(0) = +1
    moves each weight of a frozen layer by the scale of the others, and a rotation spreads a trained layer over a frozen one.

    Parameters
    ----------
    values : Compressor
        What the n non-zero entries go through, as one vector.
    shapes : sequence of tuple of int
        The arrays that lie end to end in a vector: rows and columns of zeros then cost little. By default it is one array.

    Notes
    -----
    *Guarantee.* ||Q(x) - x|| is that of ``values`` on the n <= d entries. So delta(d) is the smallest delta of ``values`` up to
    d, which for every compressor here is its delta(d).

    *Trust.* Which entries are zero is a client's word, and gives it no power over others. Its zeros count as zeros in the mean,
    whose weights stay what they were: a dense update with these zeros would do the same. It can put all of its length into few
    entries, as with top-k, and filters see that length.

    *Wire.* The length of the support, then the header of ``values``; the support (`support`), then the body of ``values``. A
    vector without zeros travels as a payload of ``values`` itself, to the byte. The codec is ``non-zeros+`` and that of
    ``values``. The decoder enforces the one code of the support, and what ``values`` enforces on n entries.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import L1Sign, NonZeros
    >>> Q = NonZeros(L1Sign())
    >>> Q.decompress(Q.compress(torch.tensor([0.0, 1.0, -3.0, 0.0])))
    tensor([ 0.,  2., -2.,  0.])
    """

    values: Compressor = field(default_factory=L1Sign)
    shapes: tuple[Shape, ...] = ()

    name: ClassVar[str] = "non-zeros"
    keeps_zeros: ClassVar[bool] = True
    exact_size = False  # the more zeros, the fewer bytes

    def __post_init__(self) -> None:
        allowed = "a compressor of vectors that is not one of non-zeros itself"
        q = self.values
        simple = isinstance(q, Compressor) and not q.wants_matrices and not isinstance(q, NonZeros)
        require(simple, "values", q, allowed)

    # -- as far as ``values`` is ------------------------------------------------------------------------------------------

    @property
    def codec(self) -> str:
        """``non-zeros+`` and the codec of ``values``."""
        return f"{self.name}+{self.values.codec}"

    @property
    def header(self) -> str:  # type: ignore[override]
        """The length of the support, then the header of ``values``."""
        return _LENGTH + self.values.header[1:]

    @classmethod
    def header_of(cls, inner: Sequence[type[Compressor]]) -> str:
        """Return the header before a payload of these classes."""
        return _LENGTH + inner[0].header_of(inner[1:])[1:] if inner else _LENGTH

    @property
    def plain(self) -> Compressor:
        """``values``: a vector without zeros is sent as its payload."""
        return self.values

    def for_round(self, round_: int) -> Self:
        """Return this compressor with the ``values`` of a round."""
        values = self.values.for_round(round_)
        return self if values is self.values else dataclasses.replace(self, values=values)

    def for_shapes(self, shapes: Sequence[Sequence[int]]) -> Self:
        """Return this compressor for arrays of these shapes, laid end to end."""
        return dataclasses.replace(self, shapes=tuple(tuple(shape) for shape in shapes))

    @classmethod
    def from_payload(cls, scalars: Scalars, body: bytes, inner: Sequence[type[Compressor]]) -> Self:
        """Read the parameters of ``values`` behind the support; a zero vector says nothing of them."""
        if not inner:
            raise WireError(f"{cls.name!r} is always composed with another compressor")
        if not any(scalars[1:]) and len(body) == scalars[0]:
            return cls(Unspoken(inner))
        return cls(inner[0].from_payload(scalars[1:], body[int(scalars[0]) :], inner[1:]))

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return that of a vector."""
        return self.body_size_of((d,), dtype)

    def body_size_of(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Return the most bytes of a support and of ``values``."""
        return largest_support(self._arrays(tuple(shape))) + self.values.largest_body_size(math.prod(shape), dtype)

    # -- packing ----------------------------------------------------------------------------------------------------------

    def adopted(self, payload: Payload) -> Payload:
        """Return a payload of ``values`` as one of this compressor: that of a vector without zeros."""
        return Payload(payload.shape, payload.dtype, (0, *payload.scalars), payload.body)

    def sent_as(self, payload: Payload) -> tuple[Compressor, Payload]:
        """Return ``values`` and its payload where no entry is zero; else this and that."""
        if payload.scalars[0]:
            return self, payload
        return self.values, Payload(payload.shape, payload.dtype, payload.scalars[1:], payload.body)

    def check(self, payload: Payload) -> None:
        """Ask for the one code of the support, and for what ``values`` asks on so many entries."""
        length = int(payload.scalars[0])
        if length > len(payload.body):
            raise WireError(f"the support must be at most {len(payload.body)} bytes, got {length}")
        count = (inner := self._sent(payload)[1]).size
        if length and count == payload.size:
            raise WireError("a vector without zeros is sent without a support")
        if not count:
            if any(inner.scalars) or inner.body:
                raise WireError("a zero vector is sent without values")
            return
        fitted = self._fitted(count, payload.size)
        check_length(fitted, inner)
        fitted.check(inner)

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return that of the entries that are not zero."""
        inner = self._sent(payload)[1]
        return self._fitted(inner.size, payload.size).norm(inner, order) if inner.size else 0.0

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return those of the entries that are not zero."""
        inner = self._sent(payload)[1]
        return self._fitted(inner.size, payload.size).norm_bounds(inner, order) if inner.size else (0.0, 0.0)

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Count the entries on the support as ``values`` does; the others are zero."""
        inner = self._sent(payload)[1]
        own = self._fitted(inner.size, payload.size).sign_counts(inner) if inner.size else (0, 0, 0)
        return among_zeros(own, payload.size)

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add payloads of one support at once, as ``values`` adds them; supports that differ, one after the other."""
        for chosen, mask, q, inner in self._groups(payloads):
            scale = [weights[i] for i in chosen]
            q.accumulate(part := out if mask is None else torch.zeros(inner[0].size, dtype=out.dtype), inner, scale)
            if mask is not None:
                out.numpy()[mask] += part.numpy()

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return those of ``values`` where all payloads have one support; else of blocks of dense rows."""
        supports = list(self._by_support(payloads))
        if len(supports) != 1 or (
            supports[0] and chosen is not None
        ):  # runs are of all coordinates, not of those that are left
            return dense_products(self.decompress_rows, payloads, chosen)
        found = [q.inner_products(inner, chosen) for _, _, q, inner in self._groups(payloads)]
        return found[0] if found else np.zeros((len(payloads), len(payloads)))

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return those of ``values`` with the entries of x on the support; payloads of one support together."""
        found = np.zeros(len(payloads))
        for chosen, mask, q, inner in self._groups(payloads):
            found[chosen] = q.dot(inner, x if mask is None else x[torch.from_numpy(np.flatnonzero(mask))])
        return found

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return those of ``values``; where supports differ, among zeros."""
        groups = [OneSupport(chosen, mask, q.columns(inner)) for chosen, mask, q, inner in self._groups(payloads)]
        return joined(payloads, self.decompress_rows, groups)

    def compress_rows(self, x: Tensor, rngs: Sequence[np.random.Generator | None]) -> list[Payload]:
        """Compress the rows without a zero together, and the others one by one."""
        full = (x.detach().reshape(len(x), -1) != 0).all(dim=1) if x.numel() else torch.zeros(len(x), dtype=torch.bool)
        if not full.any():
            return super().compress_rows(x, rngs)
        rows = x if full.all() else x[full]
        together = iter(self.values.compress_rows(rows, [rng for rng, one in zip(rngs, full, strict=True) if one]))
        each = zip(x, rngs, full, strict=True)
        return [self.adopted(next(together)) if one else self.compress(row, rng) for row, rng, one in each]

    def decompress_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Return k rows, shape (k, d); those of one support are unpacked together."""
        if not payloads:
            return super().decompress_rows(payloads)
        rows = torch.zeros(len(payloads), payloads[0].size, dtype=payloads[0].dtype)
        for chosen, mask, q, inner in self._groups(payloads):
            unpacked = q.decompress_rows(inner)
            if mask is None and len(chosen) == len(payloads):
                return unpacked
            columns = slice(None) if mask is None else torch.from_numpy(np.flatnonzero(mask))
            for i, row in zip(chosen, unpacked, strict=True):
                rows[i, columns] = row
        return rows

    def encode_array(self, array: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the support and the entries on it."""
        flat = array.reshape(-1)
        mask = as_numpy(flat) != 0
        if (count := int(np.count_nonzero(mask))) == (d := mask.size):
            inner = self.values.compress(array, rng)
            return (0, *inner.scalars), inner.body
        support = write_support(mask, self._arrays(tuple(array.shape)))
        if not count:
            return (len(support), *no_scalars(self.values)), support
        inner = self._fitted(count, d).compress(flat[torch.from_numpy(mask)], rng)
        return (len(support), *inner.scalars), support + inner.body

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack a vector."""
        return self.encode_array(flat, rng)

    def decode(self, payload: Payload) -> Tensor:
        """Put the entries on their support."""
        return self.decompress_rows([payload])[0]

    def _sent(self, payload: Payload) -> tuple[npt.NDArray[np.bool_] | None, Payload]:
        """Return which entries are not zero, None for all, and the payload of ``values`` on them."""
        length = int(payload.scalars[0])
        if not length:
            return None, self.sent_as(payload)[1]
        mask = read_support(payload.body[:length], self._arrays(payload.shape))
        return mask, Payload((int(np.count_nonzero(mask)),), payload.dtype, payload.scalars[1:], payload.body[length:])

    def _by_support(self, payloads: Sequence[Payload]) -> dict[bytes, list[int]]:
        """Return the places of payloads in the order that they came, by the bytes of their support."""
        groups: dict[bytes, list[int]] = {}
        for i, payload in enumerate(payloads):
            groups.setdefault(payload.body[: int(payload.scalars[0])], []).append(i)
        return groups

    def _groups(self, payloads: Sequence[Payload]) -> Iterator[_Group]:
        """Yield, of each support but the empty one, the places of its payloads, the support, and what reads which payloads."""
        for chosen in self._by_support(payloads).values():
            sent = [self._sent(payloads[i]) for i in chosen]
            if (mask := sent[0][0]) is None or mask.any():
                q = self._fitted(sent[0][1].size, payloads[chosen[0]].size)
                yield chosen, mask, q, [inner for _, inner in sent]

    def _fitted(self, count: int, d: int) -> Compressor:
        return self.values if count == d else self.values.for_part(count, d)

    def _arrays(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the arrays that an array of this shape consists of."""
        whole = len(shape) == 1 and self.shapes and sum(map(math.prod, self.shapes)) == shape[0]
        return self.shapes if whole else (shape,)
