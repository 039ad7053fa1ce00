"""What a round costs on the up-link: bytes of packed updates, beside those of dense ones."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flwr_robustcomp.compressors import Compressor

__all__ = ["Cost", "uplink"]


@dataclass(frozen=True)
class Cost:
    """Bytes of a round of m nodes, up-link.

    Attributes
    ----------
    packed, dense : int
        Array data of all replies; ``packed`` is the largest that can occur where sizes vary.
    bits : float
        Packed bits a coordinate.
    """

    packed: int
    dense: int
    bits: float

    @property
    def ratio(self) -> float:
        """How many times as large dense updates are."""
        return self.dense / self.packed


def uplink(compressor: Compressor, nodes: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Cost:
    """Return what ``nodes`` packed updates cost; what goes down, the model, is not compressed."""
    compressor.check_shape(shape)
    d = math.prod(shape)
    each = struct.calcsize(compressor.header) + compressor.body_size_of(shape, dtype)
    return Cost(nodes * each, nodes * d * dtype.itemsize, 8 * each / d)
