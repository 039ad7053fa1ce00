"""How the arrays of a model lie in the vectors that are compressed.

Floating arrays are laid end to end in the model's own order and make up the paper's x in R^d. Arrays that must not be
compressed (integers such as BatchNorm's counters, and those that the user names) stay aside, each as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from flwr_robustcomp.compressors import DTYPES, working_dtype
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.one_slot import OneSlot

__all__ = ["DEFAULT_UNCOMPRESSED", "Layout", "Slot", "checked_patterns", "shared_layout"]

DEFAULT_UNCOMPRESSED = ("*running_mean", "*running_var")
"""Batch statistics: a sign step could make a variance negative, so by default they travel as they are."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One array of the model: its name, shape, dtype and, if compressed, its place in the flat vector."""

    name: str
    shape: torch.Size
    dtype: torch.dtype
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The places of a model's arrays.

    Attributes
    ----------
    compressed : tuple of Slot
        Floating arrays, in the model's order; their places tile [0, d).
    uncompressed : tuple of Slot
        Arrays that travel as they are; their places are empty.
    order : tuple of str
        All names in the model's order.
    """

    compressed: tuple[Slot, ...]
    uncompressed: tuple[Slot, ...]
    order: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor], uncompressed: Sequence[str] = DEFAULT_UNCOMPRESSED) -> Layout:
        """Lay out a model.

        Parameters
        ----------
        arrays : mapping of str to Tensor
            The model, w_t.
        uncompressed : sequence of str
            Shell patterns (`fnmatch`) of floating arrays that travel as they are.

        Raises
        ------
        ConfigurationError
            If nothing is left to compress, or a dtype is complex or otherwise unknown.
        """
        packed: list[Slot] = []
        aside: list[Slot] = []
        stop = 0
        for name, tensor in arrays.items():
            require(not tensor.is_complex(), f"dtype of array {name!r}", tensor.dtype, "real")
            named = any(fnmatchcase(name, pattern) for pattern in uncompressed)
            if tensor.is_floating_point() and tensor.numel() and not named:
                require(
                    tensor.dtype in DTYPES.values(), f"dtype of array {name!r}", tensor.dtype, f"one of {', '.join(DTYPES)}"
                )
                packed.append(Slot(name, tensor.shape, tensor.dtype, stop, stop + tensor.numel()))
                stop += tensor.numel()
            else:
                aside.append(Slot(name, tensor.shape, tensor.dtype, stop, stop))
        if not packed:
            raise ConfigurationError(f"the model has no floating array to compress among {sorted(arrays)}")
        return cls(tuple(packed), tuple(aside), tuple(arrays))

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """All names."""
        return frozenset(self.order)

    @functools.cached_property
    def dim(self) -> int:
        """Number of compressed coordinates, the paper's d."""
        return self.compressed[-1].stop

    @functools.cached_property
    def dtype(self) -> torch.dtype:
        """Dtype of the whole vector: the narrowest that holds every array's entries."""
        return functools.reduce(torch.promote_types, (slot.dtype for slot in self.compressed))

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the compressed arrays."""
        return tuple(tuple(slot.shape) for slot in self.compressed)

    def flatten(self, arrays: Mapping[str, Tensor], out: Tensor | None = None) -> Tensor:
        """Return the compressed arrays as one vector, shape (d,), in working precision: a new one, or ``out``."""
        flat = torch.empty(self.dim, dtype=working_dtype(self.dtype)) if out is None else out
        for slot in self.compressed:
            flat[slot.start : slot.stop] = arrays[slot.name].detach().reshape(-1)
        return flat

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the compressed arrays, each of its shape and dtype, from a vector, shape (d,)."""
        return {s.name: flat[s.start : s.stop].reshape(s.shape).to(s.dtype) for s in self.compressed}

    def join(self, flat: Tensor, aside: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole model in its own order from the vector and the arrays that stood aside."""
        parts = {**self.split(flat), **aside}
        return {name: parts[name] for name in self.order}


_LAYOUT: OneSlot[Layout] = OneSlot()


def shared_layout(arrays: Mapping[str, Tensor], uncompressed: tuple[str, ...]) -> Layout:
    """Return `Layout.of`, made once for all callers in a row with arrays of the same names, shapes and dtypes."""
    form = [(name, tensor.shape, tensor.dtype) for name, tensor in arrays.items()]
    return _LAYOUT.get([], (form, uncompressed), lambda: Layout.of(arrays, uncompressed))


def checked_patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the names or shell patterns of arrays; `ConfigurationError` for anything but a sequence of str."""
    listed = isinstance(patterns, Sequence) and not isinstance(patterns, str)
    require(listed and all(isinstance(one, str) for one in patterns), "uncompressed", patterns, "a sequence of shell patterns")
    return tuple(patterns)
