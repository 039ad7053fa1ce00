"""Noise on the update: the attack of the paper's regression experiments."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.clients.update_attack import UpdateAttack
from flwr_robustcomp.errors import require

__all__ = ["GaussianNoise"]


class GaussianNoise(UpdateAttack):
    """Send x + N(0, sigma^2 I), fresh in every round (the paper, section 7: sigma^2 = 10).

    Parameters
    ----------
    variance : float
        sigma^2, positive.
    **options
        Those of `UpdateAttack`.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from flwr_robustcomp.clients import GaussianNoise
    >>> GaussianNoise(variance=4.0).transform(torch.zeros(1000), np.random.default_rng(0)).std().round()
    tensor(2.)
    """

    name: ClassVar[str] = "gaussian-noise"

    def __init__(self, variance: float = 10.0, **options: Any) -> None:
        require(variance > 0 and math.isfinite(variance), "variance", variance, "positive and finite")
        super().__init__(**options)
        self.variance = variance

    def transform(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return x plus noise."""
        noise = torch.from_numpy(rng.normal(0.0, math.sqrt(self.variance), x.numel()))
        return x.add_(noise.to(x.dtype))
