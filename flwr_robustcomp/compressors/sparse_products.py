"""Inner products of sparse vectors from their entries, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flwr_robustcomp.compressors.payload import Payload
from flwr_robustcomp.compressors.products import RUN, runs_of, scale_of

__all__ = ["DENSE", "Entries", "sparse_products"]

Entries = tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]
"""Ascending positions of a vector and the values there, each of shape (k,)."""

_GROUP_ENTRIES = 8 << 20  # of the vectors that are read at a time, twice: 64 MB each, 96 MB of float64
_BLOCK_BYTES = 8 << 20  # of the columns that are written out at a time, twice

DENSE = 1 / 16
"""Share of entries above which a block of columns is multiplied as dense.

`python -m benchmarks --only inner-products` measures both over densities: a sparse product costs in proportion to the entries,
a dense one the same whatever they are.
"""


@dataclass(frozen=True)
class _Group:
    """Some vectors: all their positions and values, one vector after the other, and where each begins."""

    positions: npt.NDArray[np.uint32]
    values: npt.NDArray[np.floating]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return self.starts.size - 1

    def cuts(self, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where each vector reaches n edges of blocks of columns, shape (m, n)."""
        bounds = zip(self.starts, self.starts[1:], strict=False)
        return np.stack([a + np.searchsorted(self.positions[a:b], edges) for a, b in bounds])

    def entries(
        self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], start: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the rows, columns from ``start``, and values of each vector's entries between two cuts, row by row."""
        slices = [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
        rows = np.repeat(np.arange(len(self)), last - first)
        columns = np.concatenate([self.positions[one] for one in slices]).astype(np.int64) - start
        return rows, columns, np.concatenate([self.values[one] for one in slices]).astype(np.float64)


def sparse_products(
    read: Callable[[Payload], Entries],
    payloads: Sequence[Payload],
    counts: Sequence[int],
    chosen: npt.NDArray[np.intp] | None,
    *,
    dense: float = DENSE,
) -> npt.NDArray[np.float64]:
    """Return the inner products of m sparse vectors, shape (m, m).

    Parameters
    ----------
    read : callable
        Returns the entries of a payload.
    payloads : sequence of Payload, m of them
        All of d coordinates.
    counts : sequence of int, m of them
        How many entries each has.
    chosen : numpy.ndarray of int, optional
        Runs of `RUN` coordinates, for a sketch.
    dense : float
        Share of entries above which a block of columns is written out.

    Notes
    -----
    Columns are taken a block at a time: its entries times the block written out, shape (columns, m), a product that costs
    m multiplications an entry; where a block is full, the product of two dense ones. Vectors are read in groups of so many
    entries, each group once for every one before it: memory is that of two groups and two blocks, whatever m. Merging
    the sorted positions of all vectors was tried: it is faster below one entry in a thousand, and many times slower where the
    vectors have their large entries in the same places, as updates do.
    """
    m = len(payloads)
    gram = np.zeros((m, m))
    if not m:
        return gram
    d = payloads[0].size
    taken = None if chosen is None else np.isin(np.arange(runs_of(d)), chosen)
    groups = list(_groups(counts))
    for place, rows in enumerate(groups):
        group = _read(read, payloads[rows], taken)
        gram[rows, rows] = _products(group, group, d, dense)
        for before in groups[:place]:
            block = _products(group, _read(read, payloads[before], taken), d, dense)
            gram[rows, before] = block
            gram[before, rows] = block.T
    return gram * scale_of(d, chosen)


def _groups(counts: Sequence[int]) -> Iterator[slice]:
    """Cut vectors into runs of at most `_GROUP_ENTRIES` entries, or of one vector."""
    start = total = 0
    for i, count in enumerate(counts):
        if i > start and total + count > _GROUP_ENTRIES:
            yield slice(start, i)
            start, total = i, 0
        total += count
    yield slice(start, len(counts))


def _read(read: Callable[[Payload], Entries], payloads: Sequence[Payload], taken: npt.NDArray[np.bool_] | None) -> _Group:
    parts = []
    for payload in payloads:
        positions, values = _chosen(*read(payload), taken)
        parts.append((positions.astype(np.uint32), values))  # no codec has more than 2**32 coordinates
    starts = np.cumsum([0, *(positions.size for positions, _ in parts)])
    return _Group(np.concatenate([p for p, _ in parts]), np.concatenate([v for _, v in parts]), starts)


def _chosen(positions: npt.NDArray[np.int64], values: npt.NDArray[np.floating], taken: npt.NDArray[np.bool_] | None) -> Entries:
    if taken is None:
        return positions, values
    inside = taken[positions // RUN]
    return positions[inside], values[inside]


def _products(a: _Group, b: _Group, d: int, dense: float) -> npt.NDArray[np.float64]:
    """Return the inner products of the vectors of two groups, in double precision; symmetric where they are the same."""
    width = min(d, max(RUN, _BLOCK_BYTES // (8 * max(len(a), len(b)))))
    edges = np.arange(0, d + width, width)
    cuts = a.cuts(edges)
    others = cuts if a is b else b.cuts(edges)
    out = torch.zeros(len(a), len(b), dtype=torch.float64)
    right = torch.zeros(width, len(b), dtype=torch.float64)
    for i, start in enumerate(edges[:-1].tolist()):
        rows, columns, values = left = a.entries(cuts[:, i], cuts[:, i + 1], start)
        theirs = left if a is b else b.entries(others[:, i], others[:, i + 1], start)
        if not rows.size or not theirs[0].size:
            continue
        place = theirs[1], theirs[0]
        right.numpy()[place] = theirs[2]
        if rows.size <= dense * len(a) * width:
            index = torch.from_numpy(np.stack([rows, columns]))
            shape = (len(a), width)
            sparse = torch.sparse_coo_tensor(index, torch.from_numpy(values), shape, is_coalesced=True, check_invariants=False)
            out += torch.sparse.mm(sparse, right)
        elif a is b:
            out.addmm_(right.T, right)
        else:
            block = torch.zeros(len(a), width, dtype=torch.float64)
            block.numpy()[rows, columns] = values
            out.addmm_(block, right)
        right.numpy()[place] = 0.0
    found: npt.NDArray[np.float64] = out.numpy()
    # Sums of the same products in another order differ in the last place; a + b = b + a makes the matrix symmetric.
    return (found + found.T) / 2 if a is b else found
