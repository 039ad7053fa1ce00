"""Updates multiplied by a constant: sign flip, and scaling up."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from flwr_robustcomp.clients.update_attack import UpdateAttack
from flwr_robustcomp.errors import require

__all__ = ["Scaling", "SignFlip"]


class Scaling(UpdateAttack):
    """Send factor * x.

    Parameters
    ----------
    factor : float
        Any finite number; negative ones reverse the direction.
    **options
        Those of `UpdateAttack`.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import Scaling
    >>> Scaling(-3.0, partitions=[3]).transform(torch.tensor([1.0, 2.0]), None)
    tensor([-3., -6.])
    """

    name: ClassVar[str] = "scaling"

    def __init__(self, factor: float = 10.0, **options: Any) -> None:
        require(math.isfinite(factor), "factor", factor, "finite")
        super().__init__(**options)
        self.factor = factor

    def transform(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return factor * x."""
        return x.mul_(self.factor)


class SignFlip(Scaling):
    """Send -x: ascend where the others descend, at an honest norm (Bernstein et al. 2018).

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import SignFlip
    >>> SignFlip(partitions=[3]).transform(torch.tensor([1.0, -2.0]), None)
    tensor([-1.,  2.])
    """

    name: ClassVar[str] = "sign-flip"

    def __init__(self, **options: Any) -> None:
        super().__init__(factor=-1.0, **options)
