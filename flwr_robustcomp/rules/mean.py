"""The mean of what filters leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.filters import Bounds, Matrix
from flwr_robustcomp.rules.base import Mass, Rule

__all__ = ["Mean"]


@dataclass(frozen=True)
class Mean(Rule):
    """Add what filters leave with equal weights: one weighted sum, straight from the packed form.

    Notes
    -----
    It cuts nothing, so that it loses nothing where nodes are unlike, and what it withstands is what the filters do.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flwr_robustcomp import L1Sign
    >>> from flwr_robustcomp.rules import Mean
    >>> Q, out = L1Sign(), torch.zeros(2)
    >>> sent = [Q.compress(torch.tensor(x)) for x in ([1.0, -3.0], [2.0, 2.0])]
    >>> _ = Mean().combine(out, Q, sent, np.eye(2), trim=0)
    >>> out
    tensor([2., 0.])
    """

    name: ClassVar[str] = "mean"
    by_coordinate: ClassVar[bool] = False

    def cut(self, k: int, trim: int) -> int:
        """Return 0."""
        return 0

    def reach(self, bounds: Bounds, trim: int) -> float:
        """Return the smaller of what the filters promise of their mean and of single vectors."""
        return min(bounds.longest, bounds.mean)

    def combine(
        self, out: Tensor, compressor: Compressor, payloads: Sequence[Payload], coefficients: Matrix, trim: int
    ) -> Mass:
        """Add one weighted sum; a payload of weight zero is not touched."""
        weights = coefficients.mean(axis=0)
        used = np.flatnonzero(weights).tolist()
        compressor.accumulate(out, [payloads[i] for i in used], weights[used].tolist())
        return Mass(np.ones(len(coefficients)), np.ones(len(coefficients)))
