"""Updates of nothing: a free rider, who also draws the mean towards zero."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from flwr_robustcomp.clients.update_attack import UpdateAttack

__all__ = ["Zero"]


class Zero(UpdateAttack):
    """Send 0: no norm is smaller, so norm thresholding keeps it, and the mean shrinks by the share of those who send it.

    Before the compressor (the restricted form) error feedback still adds the residual. Lin, Du and Liu 2019 call such nodes
    free riders.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import Zero
    >>> Zero(partitions=[3]).transform(torch.tensor([1.0, -2.0]), None)
    tensor([0., 0.])
    """

    name: ClassVar[str] = "zero"

    def transform(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return zeros."""
        return x.zero_()
