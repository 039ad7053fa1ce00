"""The columns of vectors whose zeros travel apart: in the places that all have in common, or among zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.bits import pack_bits, unpack_bits
from flwr_robustcomp.compressors.columns import Columns, Signs
from flwr_robustcomp.compressors.payload import Payload

__all__ = ["OneSupport", "joined"]


@dataclass(frozen=True)
class OneSupport:
    """Vectors whose entries are not zero at the same places.

    Attributes
    ----------
    chosen : sequence of int
        Which of the vectors they are.
    mask : numpy.ndarray of bool, shape (d,), or None
        The places; None for all.
    entries : Columns
        Of the entries at these places.
    """

    chosen: Sequence[int]
    mask: npt.NDArray[np.bool_] | None
    entries: Columns


def joined(payloads: Sequence[Payload], rows: Callable[[Sequence[Payload]], Tensor], groups: Sequence[OneSupport]) -> Columns:
    """Return the columns of all vectors, given by their supports; those in no group are zero.

    With one support a rule need not look at the zeros. With several, signs of one scale become signs and zeros; everything else
    becomes dense.
    """
    if groups and len(groups[0].chosen) == len(payloads):
        return groups[0].entries if groups[0].mask is None else _behind(groups[0].entries, groups[0].mask)
    dense = Columns(payloads, payloads[0].size, rows)
    return replace(dense, signs=_among_zeros(groups, len(payloads), dense.size))


def _behind(entries: Columns, mask: npt.NDArray[np.bool_]) -> Columns:
    """Return columns that a vector leaves for the places of a mask."""

    def to_model(vector: Tensor) -> Tensor:
        dense = torch.zeros(mask.size, dtype=vector.dtype)
        dense[torch.from_numpy(np.flatnonzero(mask))] = entries.in_model(vector)
        return dense

    return replace(entries, to_model=to_model)


def _among_zeros(groups: Sequence[OneSupport], m: int, d: int) -> Signs | None:
    """Return m vectors of d coordinates as signs of one scale and zeros, None where they are not that."""
    zeros = pack_bits(np.zeros(d, np.bool_))
    scales, plus, minus = np.zeros((m, 1)), [zeros] * m, [zeros] * m
    for group in groups:
        if not _has_one_scale(group.entries):
            return None
        for k, i in enumerate(group.chosen):
            mask = np.ones(d, np.bool_) if group.mask is None else group.mask
            positive, negative = np.zeros(d, np.bool_), np.zeros(d, np.bool_)
            if (signs := group.entries.signs) is not None:
                count = group.entries.size
                positive[mask] = unpack_bits(signs.plus[k], count)
                negative[mask] = ~positive[mask] if signs.minus is None else unpack_bits(signs.minus[k], count)
                scales[i] = signs.scales[k]
            plus[i], minus[i] = pack_bits(positive), pack_bits(negative)
    return Signs(scales, (d,), plus, minus)


def _has_one_scale(entries: Columns) -> bool:
    return entries.signs is not None and entries.to_model is None and len(entries.signs.sizes) == 1
