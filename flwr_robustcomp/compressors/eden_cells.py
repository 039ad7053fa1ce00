"""The cells of `Eden`'s levels: which level is nearest, which codes a vector can have, how far off a level can be."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from flwr_robustcomp.compressors.eden_levels import POSITIVE_LEVELS, UNIT

__all__ = ["Cells", "cells_of"]

_UNBOUNDED = 1 << 40
"""Stands for the square of the outermost cells' outer edge; 4096 of them add up to less than 2^53."""

_SQUARABLE = (1e-100, 1e100)
"""Peaks of blocks whose squares a double holds with all digits that matter."""

Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@functools.cache
def cells_of(bits: int) -> Cells:
    """Return the cells of the table of 2^bits levels."""
    return Cells(bits)


class Cells:
    """The levels of b bits and the edges half-way between them.

    Attributes
    ----------
    levels : numpy.ndarray, shape (2**b,), float64
        Ascending, whole multiples of 1/`UNIT`. A code is the place of a level here.
    zero : int
        The code of zero: edges belong to the cell above them, away from zero.
    error : float
        The largest E||Q(x) - x||^2 / ||x||^2 that `Eden` derives.

    Notes
    -----
    Edges are whole numbers in halves of 1/`UNIT`, so that their squares are exact; vectors that are rounded have mean square 1.
    """

    def __init__(self, bits: int) -> None:
        positive = np.array(POSITIVE_LEVELS[bits], np.int64)
        edges = positive[1:] + positive[:-1]
        below, above = np.append(0, np.square(edges)), np.append(np.square(edges), _UNBOUNDED)
        self.zero = positive.size
        self.levels: Doubles = np.concatenate([-positive[::-1], positive]) / UNIT
        self.error = 0.5 if bits == 1 else _error(positive / UNIT, edges / (2 * UNIT))
        self._inner, self._outer = np.append(below[::-1], below), np.append(above[::-1], above)
        places = np.arange(edges[-1] + 1 if edges.size else 1)
        self._by_place = (self.zero + np.searchsorted(edges, places, side="right")).astype(np.uint8)

    def nearest(self, rows: Doubles) -> tuple[Codes, Doubles]:
        """Round rotated blocks, shape (n, B), to the nearest levels in units of their root mean squares.

        Returns
        -------
        tuple of numpy.ndarray
            The codes, shape (n, B), and the scale of least error, shape (n,): zero for a block of zeros.
        """
        magnitudes = np.abs(rows)
        peaks = magnitudes.max(axis=1)
        units = np.where((peaks > _SQUARABLE[0]) & (peaks < _SQUARABLE[1]) | (peaks == 0), 1.0, peaks)
        if (units != 1).any():
            magnitudes /= units[:, None]  # their squares neither vanish nor overflow
        norms = np.sqrt(np.einsum("nb,nb->n", magnitudes, magnitudes))
        factors = 2 * UNIT * math.sqrt(rows.shape[1]) / np.where(norms > 0, norms, 1.0)
        # Edges are whole numbers here, so that the integer part of a magnitude decides its cell.
        places = magnitudes * factors[:, None]
        np.minimum(places, self._by_place.size - 1.0, out=places)
        codes = self._by_place.take(places.astype(np.int64))
        q = self.levels.take(codes)
        scales = units * (np.einsum("nb,nb->n", magnitudes, q) / np.einsum("nb,nb->n", q, q))
        codes ^= (rows < 0) * np.uint8(2 * self.zero - 1)  # the level of the other sign
        return codes, scales

    def counts(self, codes: Codes) -> Counts:
        """Return how often each code stands in each block, shape (n, 2**b), for codes of shape (n, B)."""
        n, width = codes.shape[0], self.levels.size
        places = codes.astype(np.int64) + width * np.arange(n)[:, None]
        return np.bincount(places.reshape(-1), minlength=n * width).reshape(n, width)

    def squares(self, counts: Counts) -> Doubles:
        """Return ||q||^2 of each block, shape (n,), from its counts; exact."""
        return np.asarray(counts @ np.square(self.levels))

    def possible(self, counts: Counts) -> npt.NDArray[np.bool_]:
        """Return for each block, shape (n,), whether a vector of mean square 1 has its codes."""
        size = counts.sum(axis=1) * (2 * UNIT) ** 2
        return np.asarray((counts @ self._inner <= size) & (size <= counts @ self._outer))

    def longest(self, counts: Counts) -> Doubles:
        """Return an upper bound of ||x|| / c, shape (n,), for blocks with these counts and a scale c.

        Notes
        -----
        With z = sqrt(B) y / ||x||, c = <y, q> / ||q||^2 says ||x|| / c = sqrt(B) ||q||^2 / <z, q>, and <z, q> is not small:
        |z_j| lies between the edges l_j and u_j of its cell, so that |z_j| >= (z_j^2 + l_j u_j) / (l_j + u_j), and so
        <z, q> >= sum_j l_j |q_j| + w (B - sum_j l_j^2), with w the least |q_j| / (l_j + u_j). The outermost edge is sqrt(B),
        which no |z_j| exceeds.
        """
        size = counts.sum(axis=1)
        q, low, high = np.abs(self.levels), np.sqrt(self._inner) / (2 * UNIT), np.sqrt(self._outer) / (2 * UNIT)
        slopes = q / (low + np.minimum(high, np.sqrt(size)[:, None]))  # (n, 2**b)
        least = np.where(counts > 0, slopes, np.inf).min(axis=1)
        products = counts @ (q * low) + least * np.maximum(size - counts @ np.square(low), 0.0)
        return np.asarray(np.sqrt(size) * self.squares(counts) / products)


def _error(levels: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> float:
    """Return the least A(t) / sqrt(1 - 2 t) over hundredths t, see `Eden`, given the positive levels and the edges between."""
    inner, outer = np.append(0.0, edges), np.append(edges, np.inf)
    found = []
    for t in np.arange(1, 50) / 100:
        # Below its level a cell's worst place is the inner edge; above it, where (z - q)^2 exp(-t z^2) peaks: t z (z - q) = 1.
        worst = np.stack([inner, np.minimum(outer, (levels + np.sqrt(levels**2 + 4 / t)) / 2)])
        largest = (np.square(worst - levels) * np.exp(-t * np.square(worst))).max()
        found.append(float(largest) / math.sqrt(1 - 2 * t))
    return min(found)
