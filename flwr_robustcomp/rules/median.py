"""The median of each coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.filters import Matrix
from flwr_robustcomp.rules.base import Mass, Rule
from flwr_robustcomp.rules.trimming import add_trimmed_mean

__all__ = ["Median"]


@dataclass(frozen=True)
class Median(Rule):
    """At each coordinate the middle value, or the mean of the two in the middle.

    Yin, Chen, Ramchandran and Bartlett 2018, Definition 1. It is the trimmed mean that cuts all it can, and has its guarantee
    with any number of Byzantine vectors below half; its cost where nodes are unlike is the largest, too.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flwr_robustcomp import Identity
    >>> from flwr_robustcomp.rules import Median
    >>> Q, out = Identity(), torch.zeros(2)
    >>> sent = [Q.compress(torch.tensor(x)) for x in ([1.0, -1.0], [2.0, 2.0], [-9.0, 9.0])]
    >>> _ = Median().combine(out, Q, sent, np.eye(3), trim=1)
    >>> out
    tensor([1., 2.])
    """

    name: ClassVar[str] = "median"

    def cut(self, k: int, trim: int) -> int:
        """Return (k - 1) // 2, whatever ``trim`` is."""
        return (k - 1) // 2

    def combine(
        self, out: Tensor, compressor: Compressor, payloads: Sequence[Payload], coefficients: Matrix, trim: int
    ) -> Mass:
        """Add the median; see `trimming`."""
        return add_trimmed_mean(out, compressor.columns(payloads), coefficients, self.cut(len(coefficients), trim))
