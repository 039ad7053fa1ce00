"""The mean of each coordinate without its largest and smallest values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from flwr_robustcomp.compressors import Compressor, Payload
from flwr_robustcomp.filters import Matrix
from flwr_robustcomp.rules.base import Mass, Rule
from flwr_robustcomp.rules.trimming import add_trimmed_mean

__all__ = ["TrimmedMean"]


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """At each coordinate cut the b smallest and the b largest values, and take the mean of the others.

    Yin, Chen, Ramchandran and Bartlett 2018, Definition 2, with b the number of Byzantine vectors that are expected, or
    (k - 1) // 2 of k vectors where that is less.

    Notes
    -----
    *Guarantee.* With at most b Byzantine vectors every entry lies between the smallest and the largest honest value at its
    coordinate. So the outcome is at most sqrt(h) R long for h honest vectors of at most R; and at most k / (k - 2b) times as
    long as the longest vector that it is given, for a cut takes length away from every vector.

    *Cost.* Where nodes are unlike, a value that few nodes have is cut although all are honest: where at most b nodes train a
    weight, it does not move. Signs with scales suffer least from that; sparse updates are refused, for most of their
    values are zero, and so is what is left.

    *The basis* is the one that the payloads of a round share (`Columns`): with `Drive`, the rotated one.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flwr_robustcomp import L1Sign
    >>> from flwr_robustcomp.rules import TrimmedMean
    >>> Q, out = L1Sign(), torch.zeros(2)
    >>> sent = [Q.compress(torch.tensor(x)) for x in ([1.0, -1.0], [2.0, 2.0], [-9.0, 9.0])]
    >>> mass = TrimmedMean().combine(out, Q, sent, np.eye(3), trim=1)
    >>> out, mass.shares.tolist()  # columns 1, 2, -9 and -1, 2, 9
    (tensor([1., 2.]), [0.5, 0.5, 0.0])
    """

    name: ClassVar[str] = "trimmed-mean"

    def cut(self, k: int, trim: int) -> int:
        """Return ``trim``, and no more than leaves one value or two."""
        return min(trim, (k - 1) // 2)

    def combine(
        self, out: Tensor, compressor: Compressor, payloads: Sequence[Payload], coefficients: Matrix, trim: int
    ) -> Mass:
        """Add the trimmed mean; see `trimming`."""
        return add_trimmed_mean(out, compressor.columns(payloads), coefficients, self.cut(len(coefficients), trim))
