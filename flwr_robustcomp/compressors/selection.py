"""The k entries of largest magnitude."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["largest_entries"]


def largest_entries(x: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.int64]:
    """Return the positions of the k entries of largest magnitude, ascending; of equal ones the first count.

    Parameters
    ----------
    x : numpy.ndarray, shape (d,)
        Finite.
    k : int
        In [1, d].

    Notes
    -----
    Partitioning the magnitudes alone and comparing with the k-th is several times faster than selecting positions, and makes
    the choice among equals the same everywhere.
    """
    magnitude = np.abs(x)
    threshold = np.partition(magnitude, x.size - k)[x.size - k]
    above = np.flatnonzero(magnitude > threshold)
    if above.size == k:
        return above.astype(np.int64)
    equal = np.flatnonzero(magnitude == threshold)[: k - above.size]
    return np.sort(np.concatenate([above, equal])).astype(np.int64)
