"""Packed vectors as a rule by coordinates sees them: one coordinate of all vectors after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.payload import Payload, working_dtype

__all__ = ["Columns", "Signs"]

_BLOCK_BYTES = 32 << 20  # of a block of columns, of which a rule makes another of the same size

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Signs:
    r"""m vectors whose entries are -c, 0 and c, with a scale c >= 0 for each vector and block of coordinates.

    Attributes
    ----------
    scales : numpy.ndarray, shape (m, n), float64
        Of n blocks.
    sizes : sequence of int, n of them
        Coordinates of the blocks, which lie end to end.
    plus : sequence of bytes, m of them
        Bitmaps of the entries that are c, ceil(d / 8) bytes each.
    minus : sequence of bytes, optional
        Bitmaps of those that are -c; by default all others are, and the padding bits say nothing.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import L1Sign
    >>> Q = L1Sign()
    >>> signs = Q.columns([Q.compress(torch.tensor([1.0, -3.0, 2.0]))]).signs
    >>> signs.scales.tolist(), signs.plus
    ([[2.0]], [b'\x05'])
    """

    scales: npt.NDArray[np.float64]
    sizes: Sequence[int]
    plus: Sequence[bytes]
    minus: Sequence[bytes] | None = None


@dataclass(frozen=True)
class Columns:
    """m packed vectors, in a basis that all of them share: the model's own, or the rotated one of a round.

    Attributes
    ----------
    payloads : sequence of Payload, m of them
        The vectors.
    size : int
        Coordinates in the shared basis, d' <= d.
    rows : callable
        (k payloads) -> Tensor of shape (k, d'), the vectors in the shared basis, in their own dtype.
    to_model : callable, optional
        (vector, shape (d',)) -> the same in the model's own basis, shape (d,); by default the basis is the model's.
    signs : Signs or None
        The vectors as scaled signs, where they are that.

    Notes
    -----
    A rule by coordinates depends on the basis. In a rotated one an entry is a mixture of a block of the model's weights.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import Identity
    >>> Q = Identity()
    >>> columns = Q.columns([Q.compress(torch.tensor([1.0, 2.0])), Q.compress(torch.tensor([3.0, 4.0]))])
    >>> [(start, block.tolist()) for start, block in columns.blocks()]
    [(0, [[1.0, 2.0], [3.0, 4.0]])]
    """

    payloads: Sequence[Payload]
    size: int
    rows: Callable[[Sequence[Payload]], Tensor]
    to_model: Callable[[Tensor], Tensor] | None = None
    signs: Signs | None = None

    def __len__(self) -> int:
        return len(self.payloads)

    def in_model(self, vector: Tensor) -> Tensor:
        """Return a vector of the shared basis, shape (d',), in the model's own, shape (d,)."""
        return vector if self.to_model is None else self.to_model(vector)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield a first coordinate and a block of columns from there, shape (m, c) in working precision, up to the last.

        Memory is that of one block, 32 MiB, whatever m and d'. For it a vector is decoded once for each block: a pass over all
        vectors for every 32 MiB that they would take together.
        """
        width = max(64, _BLOCK_BYTES // (4 * len(self)))
        for start in range(0, self.size, width):
            stop = min(start + width, self.size)
            yield start, torch.cat([self.rows([one])[:, start:stop].to(working_dtype(one.dtype)) for one in self.payloads])
