"""What client and server must agree on to read each other: which arrays are compressed, as which vectors, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from torch import Tensor

from flwr_robustcomp.component import Component, build
from flwr_robustcomp.compressors import CHOICES, COMPRESSORS, ByShape, Choice, Compressor, keeping_zeros
from flwr_robustcomp.compressors.choice import is_matrix
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.layout import DEFAULT_UNCOMPRESSED, Layout, checked_patterns, shared_layout
from flwr_robustcomp.one_slot import OneSlot
from flwr_robustcomp.spans import Span

__all__ = ["Granularity", "Packing", "build_compressor"]

Granularity = Literal["model", "array"]
"""Compress all floating arrays as one vector, or each array on its own."""


@dataclass(frozen=True)
class Packing:
    """How the arrays of a model travel; the one value that the client mods and the strategy of a run share.

    Parameters
    ----------
    compressor : Compressor or Choice
        Q of all arrays, or a rule that gives each array its own (`ByShape`, `BySize`, `ByName`). A compressor of matrices alone
        stands for ``ByShape`` of it: what is no matrix travels as it is.
    granularity : {"model", "array"}
        Compress all floating arrays as one vector, laid end to end in the model's order, or each array on its own. A choice
        needs "array".
    uncompressed : sequence of str
        Shell patterns of floating arrays that travel as they are; by default those of batch statistics. Integer and boolean
        arrays always do.

    Raises
    ------
    ConfigurationError
        At construction for a value that is not allowed; when a model is there, for a compressor that does not fit its arrays.

    Examples
    --------
    >>> from flwr_robustcomp import ByShape, CompressionMod, Drive, LowRank, NormThreshold, Packing
    >>> packing = Packing(ByShape(matrices=LowRank(4), vectors=Drive()), granularity="array")
    >>> mod, strategy = CompressionMod(packing), NormThreshold(compressor=packing, trim=1)
    >>> mod.packing == strategy.packing
    True
    """

    compressor: Compressor | Choice
    granularity: Granularity = "model"
    uncompressed: tuple[str, ...] = DEFAULT_UNCOMPRESSED

    def __post_init__(self) -> None:
        require(isinstance(self.compressor, Compressor | Choice), "compressor", self.compressor, "a Compressor or a Choice")
        allowed = get_args(Granularity)
        require(self.granularity in allowed, "granularity", self.granularity, f"one of {', '.join(allowed)}")
        each = isinstance(self.compressor, Choice) or self.compressor.wants_matrices
        why = f'"array" for {self.compressor.name!r}, which sees no array in a whole model'
        require(self.granularity == "array" or not each, "granularity", self.granularity, why)
        object.__setattr__(self, "uncompressed", checked_patterns(self.uncompressed))

    @classmethod
    def of(
        cls,
        compressor: Compressor | Choice | Packing,
        granularity: Granularity | None = None,
        uncompressed: Sequence[str] | None = None,
    ) -> Self:
        """Return a packing of these three, None for the default; or the one that is given in the place of the first."""
        given = {"granularity": granularity, "uncompressed": uncompressed}
        given = {name: value for name, value in given.items() if value is not None}
        if not isinstance(compressor, cls):
            return cls(compressor, **given)  # type: ignore[arg-type]
        for name, value in given.items():
            raise ConfigurationError(f"{name} must be left out beside a Packing, got {value!r}")
        return compressor

    @property
    def choice(self) -> Compressor | Choice:
        """What chooses: ``compressor``, or `ByShape` of one that is of use on matrices alone."""
        q = self.compressor
        return ByShape(matrices=q) if isinstance(q, Compressor) and q.wants_matrices else q

    @property
    def compressors(self) -> tuple[Compressor, ...]:
        """All compressors that an array can go through."""
        choice = self.choice
        return choice.compressors if isinstance(choice, Choice) else (choice,)

    @property
    def embeds_norm(self) -> bool:
        """Whether all of them are of the paper's C_norm, so that ||Q(x)|| tells how long x is."""
        return all(compressor.embeds_norm for compressor in self.compressors)

    def layout(self, model: Mapping[str, Tensor]) -> Layout:
        """Return where the arrays of a model lie; remembered for callers in a row with models of one form."""
        return shared_layout(model, self.uncompressed)

    def spans(self, layout: Layout, round_: int = 0, *, reading: bool = False) -> tuple[Span, ...]:
        """Return the vectors that a round compresses, each with its compressor; they tile [0, d).

        Parameters
        ----------
        layout : Layout
            Of the model.
        round_ : int
            The server round, which some compressors draw by.
        reading : bool
            Whether to read what others compressed (`keeping_zeros`).

        Notes
        -----
        Zeros stay zero under the compressors that are returned (docs/adr/0022).
        """
        return _SPANS.get([layout, self], (round_, reading), lambda: self._spans(layout, round_, reading))

    def _spans(self, layout: Layout, round_: int, reading: bool) -> tuple[Span, ...]:
        choice = self.choice
        prepared: dict[int, Compressor] = {}  # by identity: arrays that share a compressor share its prepared form

        def prepare(compressor: Compressor) -> Compressor:
            if id(compressor) not in prepared:
                prepared[id(compressor)] = keeping_zeros(compressor, layout.shapes, reading=reading).for_round(round_)
            return prepared[id(compressor)]

        if self.granularity == "model" and isinstance(choice, Compressor):
            return (Span(None, (layout.dim,), layout.dtype, 0, layout.dim, prepare(choice)),)
        found = [choice.compressor_of(s.name, s.shape) if isinstance(choice, Choice) else choice for s in layout.compressed]
        return tuple(
            Span(s.name, tuple(s.shape), s.dtype, s.start, s.stop, prepare(compressor))
            for s, compressor in zip(layout.compressed, found, strict=True)
        )

    def check(self, layout: Layout) -> None:
        """Raise `ConfigurationError` if a compressor does not fit the arrays that go through it, or fits none."""
        for span in self.spans(layout):
            try:
                span.compressor.check_shape(span.shape)
            except ConfigurationError as error:
                whole = span.name is None
                raise ConfigurationError(str(error) if whole else f"array {span.name!r}: {error}") from error
        if self.choice is not self.compressor and not any(map(is_matrix, layout.shapes)):
            name = self.compressor.name
            raise ConfigurationError(
                f"shapes of the arrays must hold at least one matrix for {name!r}, got {list(layout.shapes)}"
            )

    def __str__(self) -> str:
        return f"{self.compressor} (per {self.granularity})"


_SPANS: OneSlot[tuple[Span, ...]] = OneSlot()


def build_compressor(field: str, component: Component) -> Compressor | Choice:
    """Build what a configuration names: one of `COMPRESSORS` or `CHOICES`, or a class of your own by its import path."""
    registry: dict[str, Callable[..., Compressor | Choice]] = {**COMPRESSORS, **CHOICES}
    return build(field, registry, component, base=(Compressor, Choice))
