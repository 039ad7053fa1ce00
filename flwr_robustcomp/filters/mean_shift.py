"""Clusters of points about the peaks of their density."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.filters.vectors import Matrix

__all__ = ["bandwidth_of", "mean_shift"]

_STEPS = 300


def bandwidth_of(points: Matrix, share: float = 0.5) -> float:
    """Return the mean, over all points, of the distance within which a share of them lie, itself included."""
    nearest = np.sort(_distances(points, points), axis=1)
    return float(nearest[:, max(1, int(share * len(points))) - 1].mean())


def mean_shift(points: Matrix, bandwidth: float) -> npt.NDArray[np.intp]:
    """Return the cluster of each point, shape (m,); 0 is that of the densest peak.

    Parameters
    ----------
    points : numpy.ndarray, shape (m, k), float64
        The points.
    bandwidth : float
        The radius of the window; a point at this distance is inside.

    Notes
    -----
    Comaniciu and Meer 2002, with a flat window. From every point a centre moves to the mean of the points in its window until
    it rests. Of centres within a window of each other the one with most points stays, and a point belongs to the nearest that
    stayed. Equally dense ones go by their coordinates. So the outcome does not depend on the order of the points.
    """
    centres = points
    for _ in range(_STEPS):
        inside = _distances(centres, points) <= bandwidth
        moved = inside @ points / inside.sum(axis=1, keepdims=True)
        if np.array_equal(moved, centres):
            break
        centres = moved
    density = (_distances(centres, points) <= bandwidth).sum(axis=1)
    peaks: list[int] = []
    for i in np.lexsort((*-centres.T[::-1], -density)):
        if not peaks or _distances(centres[[i]], centres[peaks]).min() > bandwidth:
            peaks.append(int(i))
    return np.asarray(_distances(points, centres[peaks]).argmin(axis=1))


def _distances(a: Matrix, b: Matrix) -> Matrix:
    """Return Euclidean distances, shape (len(a), len(b))."""
    return np.asarray(np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2))
