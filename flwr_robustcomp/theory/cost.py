"""What a round costs, up and down: bytes of packed updates and of the packed model, beside those of dense ones."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from flwr_robustcomp.compressors import Compressor

__all__ = ["Cost", "Traffic", "downlink", "traffic", "uplink"]


@dataclass(frozen=True)
class Cost:
    """Bytes of a round of m nodes, in one direction.

    Attributes
    ----------
    packed, dense : int
        Array data of all messages; ``packed`` is the largest that can occur where sizes vary.
    bits : float
        Packed bits a coordinate.
    """

    packed: int
    dense: int
    bits: float

    @property
    def ratio(self) -> float:
        """How many times as large dense arrays are."""
        return self.dense / self.packed

    @property
    def worth_sending(self) -> int:
        """How many such payloads are together smaller than a dense array: the rounds that a node may miss and catch up on."""
        return (self.dense - 1) // self.packed


@dataclass(frozen=True)
class Traffic:
    """Bytes of a round of m nodes, in both directions.

    Attributes
    ----------
    up, down : Cost
        Updates, and what the server sends for nodes to train from. Evaluation sends ``down`` once more, to the nodes that
        evaluate.
    """

    up: Cost
    down: Cost

    @property
    def packed(self) -> int:
        """Up and down together."""
        return self.up.packed + self.down.packed

    @property
    def ratio(self) -> float:
        """How many times as much dense FedAvg sends in both directions together."""
        return (self.up.dense + self.down.dense) / self.packed


def uplink(compressor: Compressor, nodes: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Cost:
    """Return what ``nodes`` packed updates cost."""
    compressor.check_shape(shape)
    d = math.prod(shape)
    each = struct.calcsize(compressor.header) + compressor.body_size_of(shape, dtype)
    return Cost(nodes * each, nodes * d * dtype.itemsize, 8 * each / d)


def downlink(compressor: Compressor | None, nodes: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Cost:
    """Return what it costs to send ``nodes`` the packed model, or the packed change of a shared replica; None is dense."""
    if compressor is not None:
        return uplink(compressor, nodes, shape, dtype)
    dense = nodes * math.prod(shape) * dtype.itemsize
    return Cost(dense, dense, 8 * dtype.itemsize)


def traffic(
    up: Compressor, down: Compressor | None, nodes: int, shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Traffic:
    """Return what a round costs in both directions; ``down`` is None for a dense model."""
    return Traffic(uplink(up, nodes, shape, dtype), downlink(down, nodes, shape, dtype))
