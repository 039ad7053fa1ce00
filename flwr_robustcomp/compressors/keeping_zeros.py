"""Which compressor mods and strategies really use: one under which zeros stay zero (docs/adr/0022)."""

from __future__ import annotations

from collections.abc import Sequence

from flwr_robustcomp.compressors.base import Compressor
from flwr_robustcomp.compressors.non_zeros import NonZeros

__all__ = ["keeping_zeros"]


def keeping_zeros(compressor: Compressor, shapes: Sequence[Sequence[int]] = (), *, reading: bool = False) -> Compressor:
    """Return a compressor under which zeros stay zero: the same where it keeps them itself, else `NonZeros` of it.

    Parameters
    ----------
    compressor : Compressor
        As it is configured.
    shapes : sequence of sequence of int
        Of the arrays of a model, where all of them are compressed as one vector.
    reading : bool
        Read zeros that stay zero even where the configured compressor sends none, as ``L1Sign(plus_zero=True)``.

    Notes
    -----
    Mods compress with it, and strategies read with it. `LowRank` keeps rows and columns of zeros itself.
    """
    moves_zeros = not compressor.keeps_zeros and not compressor.wants_matrices
    if compressor.wants_non_zeros or (reading and moves_zeros):
        compressor = NonZeros(compressor)
    return compressor.for_shapes(shapes)
