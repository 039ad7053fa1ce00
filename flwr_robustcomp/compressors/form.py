"""What a compressor is called on the wire, and which one it is in a round, on a model, on a part of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self, cast

from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.errors import WireError

if TYPE_CHECKING:
    from flwr_robustcomp.compressors.base import Compressor

__all__ = ["Form", "Scalars"]

Scalars = tuple[int | float, ...]
"""The header fields of a payload."""


class Form:
    """The part of `Compressor` that says what travels, and under which name; most compressors need none of it.

    Attributes
    ----------
    name, header, keeps_zeros, wants_matrices
        See `Compressor`.
    """

    name: ClassVar[str]
    header: ClassVar[str] = "<"
    keeps_zeros: ClassVar[bool] = False
    wants_matrices: ClassVar[bool] = False

    @property
    def codec(self) -> str:
        """The name on the wire: the compressor's own, then ``+`` and the name of what it is composed with, if anything."""
        return self.name

    def for_round(self, round_: int) -> Self:
        """Return the compressor of one round; another only where client and server draw the same numbers anew each round."""
        return self

    def for_shapes(self, shapes: Sequence[Sequence[int]]) -> Self:
        """Return the compressor of vectors that consist of arrays of these shapes; another only where that is of use."""
        return self

    def for_part(self, count: int, d: int) -> Compressor:
        """Return the compressor of ``count`` out of d coordinates; another only where a parameter counts coordinates."""
        return cast("Compressor", self)

    @property
    def wants_non_zeros(self) -> bool:
        """Whether mods and strategies give it the entries alone that are not zero, because it would give the others a value."""
        return not self.keeps_zeros and not self.wants_matrices

    @classmethod
    def header_of(cls, inner: Sequence[type[Compressor]]) -> str:
        """Return `header`, given the compressors named after the first ``+`` in `codec`."""
        return cls.header

    @classmethod
    def from_payload(cls, scalars: Scalars, body: bytes, inner: Sequence[type[Compressor]]) -> Self:
        """Return the compressor that wrote a payload; the wire carries every parameter that decoding needs.

        Parameters
        ----------
        scalars : tuple of int or float
            The payload's.
        body : bytes
            The payload's; a composed compressor finds the header of the other there.
        inner : sequence of type
            The compressors named after the first ``+`` in `codec`.
        """
        if inner:
            raise WireError(f"{cls.name!r} is not composed with anything")
        return cls.from_scalars(scalars)

    @classmethod
    def from_scalars(cls, scalars: Scalars) -> Self:
        """Return the compressor that wrote these scalars, for those that are not composed."""
        return cls()

    @property
    def plain(self) -> Compressor | None:
        """Another compressor whose payloads are read as this one's, through `adopted`; None where there is none."""
        return None

    def adopted(self, payload: Payload) -> Payload:
        """Return a payload of `plain` as one of this compressor."""
        return payload

    def sent_as(self, payload: Payload) -> tuple[Compressor, Payload]:
        """Return what travels for a payload, and the compressor under whose name it does; the inverse of `adopted`."""
        return cast("Compressor", self), payload
