"""Replace every vector by the mean of its nearest neighbours, and let another filter go on from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flwr_robustcomp.filters.base import Filter
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["NearestNeighborMixing"]


@dataclass(frozen=True)
class NearestNeighborMixing(Filter):
    """Replace x_i by the mean of the m - f vectors nearest to it, itself included.

    Notes
    -----
    Allouah et al. 2023, Algorithm 2 (NNM), with f = ``trim``: it makes what follows robust where honest vectors differ from
    node to node, and leaves m vectors. An honest vector has m - f honest ones within 2 R, itself included, so its mixture is at
    most 3 R long. A Byzantine one has itself in its mixture: something robust must follow.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import MultiKrum, NearestNeighborMixing, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [1.1, 0.0], [-9.0, 0.0]])
    >>> coefficients = chain([NearestNeighborMixing(trim=1), MultiKrum(trim=1)], Vectors.of_gram(x @ x.T))
    >>> (coefficients @ x).round(2)
    array([1.02, 0.  ])
    """

    name: ClassVar[str] = "nearest-neighbor-mixing"
    honest_gain: ClassVar[float] = 3.0

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Mix."""
        m = len(vectors)
        nearest = np.argsort(vectors.squared_distances, axis=1, kind="stable")[:, : m - trim]  # (m, m - f)
        mixture = np.zeros((m, m))
        np.put_along_axis(mixture, nearest, 1.0 / (m - trim), axis=1)
        return mixture
