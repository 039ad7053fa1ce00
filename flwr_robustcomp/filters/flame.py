"""Keep the majority that lies closest together in direction, and shorten it to the median norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.filters.base import Filter, kept_rows, shortening
from flwr_robustcomp.filters.scatter import ROUNDINGS
from flwr_robustcomp.filters.vectors import Matrix, Vectors

__all__ = ["Flame", "majority_cluster"]


@dataclass(frozen=True)
class Flame(Filter):
    """Keep the densest cluster of cosines that is a majority, with every vector shortened to the median norm of all.

    Parameters
    ----------
    trim : int or float
        Not used: the majority decides. What is promised is promised for so many Byzantine vectors.

    Notes
    -----
    Nguyen et al. 2022, Algorithm 1. The clustering is theirs, HDBSCAN on the cosine distances 1 - cos with
    clusters of more than m/2 vectors and one neighbour as the measure of density; `majority_cluster` says why that is a small
    computation.

    *What differs.* They add Gaussian noise to the mean, which is a matter of the step and is left out. They take the cosines of
    models; here they are those of updates, because the last model, which all have in common, hides what differs. A zero vector
    has no direction, and is at distance 1 from all others. Of an even number of norms the median is the lower one.

    *Reach.* While fewer than half of the vectors are Byzantine, an honest one is at least as long as the lower median. So
    nothing it returns is longer than R. It says nothing of directions: a majority is kept, and colluders can be a part of it.

    *What it costs.* The cluster is the smallest that is a majority. Of vectors that are all alike little more than half stay.

    Examples
    --------
    >>> import numpy as np
    >>> from flwr_robustcomp.filters import Flame, Vectors, chain
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [2.0, 0.0], [-1.0, 0.0]])
    >>> chain([Flame()], Vectors.of_gram(x @ x.T)).round(2)
    array([0.25, 0.25, 0.25, 0.13, 0.  ])
    """

    name: ClassVar[str] = "flame"

    def left(self, m: int, trim: int) -> int:
        """Return floor(m/2) + 1."""
        return m // 2 + 1

    def longest(self, m: int, trim: int) -> float:
        """Return 1: all are shortened to the median; with half of the vectors or more Byzantine there is no promise."""
        return 1.0 if 2 * trim < m else math.inf

    def combine(self, vectors: Vectors, trim: int) -> Matrix:
        """Cluster, and shorten."""
        m = len(vectors)
        kept = majority_cluster(1.0 - vectors.cosines)
        return kept_rows(kept, m) * shortening(vectors.norms, float(np.sort(vectors.norms)[(m - 1) // 2]))


def majority_cluster(distances: Matrix) -> npt.NDArray[np.intp]:
    """Return the first cluster of single linkage that has more than half of the points, ascending.

    Parameters
    ----------
    distances : numpy.ndarray, shape (m, m), float64
        Symmetric; what stands on the diagonal does not matter.

    Notes
    -----
    This is what HDBSCAN (Campello et al. 2013) finds with clusters of at least floor(m/2) + 1 points and ``min_samples = 1``,
    a single cluster allowed. With one neighbour its mutual reachability is the distance itself. Two clusters of that size are
    never disjoint, so those of single linkage form a chain by inclusion, no split has two children that count, and the cluster
    that it selects is the last one before a split leaves no majority.

    Prim's algorithm visits all points of a cluster before it leaves it, whatever the radius. So clusters are runs of its order,
    cut where a point joined by more than the radius, and the radius sought is the smallest maximum over floor(m/2) joins in a
    row. Distances that differ by rounding alone count as equal.
    """
    m = len(distances)
    order, joined = _prim(distances)
    if m < 2:
        return order
    maxima = np.lib.stride_tricks.sliding_window_view(joined[1:], m // 2).max(axis=1)
    place = int(maxima.argmin()) + 1  # of a point that joined within the radius
    radius = maxima[place - 1] + ROUNDINGS * np.finfo(np.float64).eps
    run = np.cumsum(joined > radius)
    return np.sort(order[run == run[place]])


def _prim(distances: Matrix) -> tuple[npt.NDArray[np.intp], Matrix]:
    """Return the order in which Prim's algorithm visits points from the first on, and by which distance each joined."""
    m, here = len(distances), 0
    order, joined, nearest, left = np.zeros(m, np.intp), np.zeros(m), np.full(m, np.inf), np.ones(m, np.bool_)
    for place in range(m):
        order[place], joined[place], left[here] = here, nearest[here], False
        nearest = np.minimum(nearest, distances[here])
        here = int(np.where(left, nearest, np.inf).argmin())
    return order, joined
