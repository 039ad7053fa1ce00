"""No compression: delta = 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.compressors.base import Compressor, Scalars
from flwr_robustcomp.compressors.norms import vector_norm
from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.values import check_finite, values_from_bytes, values_to_bytes

__all__ = ["Identity"]


@dataclass(frozen=True)
class Identity(Compressor):
    """Send every coordinate as it is, in the model's own dtype.

    Notes
    -----
    delta = 1 for every x (the paper, section 3). The decoder enforces finite entries; every finite vector is in the image.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import Identity
    >>> Q = Identity()
    >>> Q.decompress(Q.compress(torch.tensor([1.0, -2.0])))
    tensor([ 1., -2.])
    """

    name: ClassVar[str] = "identity"
    keeps_zeros: ClassVar[bool] = True
    projects: ClassVar[bool] = True
    exact_decode = True

    @property
    def unbiased(self) -> bool:
        """Whether E[Q(x)] = x: yes."""
        return True

    def delta(self, d: int) -> float:
        """Return 1: nothing is lost."""
        return 1.0

    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return d times the size of an entry."""
        return d * dtype.itemsize

    def check(self, payload: Payload) -> None:
        """Ask for finite entries."""
        check_finite(self.decode(payload))

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return ||x||_q twice: it is known exactly."""
        norm = vector_norm(self.decode(payload), order)
        return norm, norm

    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack the values as they are."""
        return (), values_to_bytes(flat)

    def decode(self, payload: Payload) -> Tensor:
        """Return the values."""
        return values_from_bytes(payload.body, payload.dtype)
