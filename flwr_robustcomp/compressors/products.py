"""Inner products of many decompressed vectors in bounded memory, whole or sketched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.payload import Payload, working_dtype
from flwr_robustcomp.compressors.sums import total

__all__ = ["RUN", "dense_products", "energies_of_runs", "runs_of", "scale_of"]

RUN = 64
"""Coordinates that a sketch takes or leaves together: a word of packed signs."""

_BLOCK_BYTES = 64 << 20  # of decoded rows, twice
_COLUMNS = 1 << 15


def runs_of(d: int) -> int:
    """Return the number of runs of coordinates that a sketch chooses among; the last may be shorter."""
    return -(-d // RUN)


def scale_of(d: int, chosen: npt.NDArray[np.intp] | None) -> float:
    """Return what the products over the chosen runs are multiplied by, so that they estimate those over all."""
    return 1.0 if chosen is None else runs_of(d) / chosen.size


def energies_of_runs(x: Tensor, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the squared length of each chosen run of a vector.

    Parameters
    ----------
    x : Tensor, shape (d,), floating
        The vector.
    chosen : numpy.ndarray of int, shape (s,)
        Runs of `RUN` coordinates, out of ceil(d / `RUN`).

    Returns
    -------
    numpy.ndarray, shape (s,), float64
        Not scaled up.
    """
    padded = torch.nn.functional.pad(x, (0, -x.numel() % RUN)).reshape(-1, RUN)[torch.from_numpy(chosen)]  # (s, 64)
    return total(np.square(padded.T.double().numpy()))  # what is shown and what is hidden decides who is kept: see `sums`


def dense_products(
    decode: Callable[[Sequence[Payload]], Tensor], payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None
) -> npt.NDArray[np.float64]:
    """Return the inner products of m payloads, shape (m, m), by decoding blocks of them.

    Parameters
    ----------
    decode : callable
        Makes rows, shape (k, d), of k payloads.
    payloads : sequence of Payload, m of them
        All of d coordinates.
    chosen : numpy.ndarray of int, optional
        Runs of `RUN` coordinates, for a sketch.

    Notes
    -----
    Each block is decoded once for every block before it: memory is that of two blocks, whatever m.

    The products run in BLAS, whose order of additions is the processor's. A sum of d products is off by at most about d 2^-53
    times ||x|| ||y||, in practice by a few 2^-53: two machines agree to that, and not bit for bit. Symmetry, however, is exact
    everywhere, because each block and its mirror image are one product.
    """
    m = len(payloads)
    gram = np.zeros((m, m))
    if not m:
        return gram
    step = max(1, _BLOCK_BYTES // (payloads[0].size * working_dtype(payloads[0].dtype).itemsize))
    for i in range(0, m, step):
        rows = _runs(decode(payloads[i : i + step]), chosen)  # (step, d) or (step, 64 s)
        block = _products(rows, rows)
        # Some processors' kernels add up the two triangles in different orders; a + b = b + a is the same number for both.
        gram[i : i + step, i : i + step] = (block + block.T) / 2
        for j in range(0, i, step):
            block = _products(rows, _runs(decode(payloads[j : j + step]), chosen))
            gram[i : i + step, j : j + step] = block
            gram[j : j + step, i : i + step] = block.T
    return gram * scale_of(payloads[0].size, chosen)


def _products(a: Tensor, b: Tensor) -> npt.NDArray[np.float64]:
    """Return a b^T in double precision, shapes (k, d) and (l, d), in memory that does not grow with d."""
    out = torch.zeros(len(a), len(b), dtype=torch.float64)
    for start in range(0, a.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        out.addmm_(a[:, columns].double(), b[:, columns].double().T)
    return out.numpy()


def _runs(rows: Tensor, chosen: npt.NDArray[np.intp] | None) -> Tensor:
    """Return the chosen runs of coordinates of rows, shape (k, d)."""
    if chosen is None:
        return rows
    index = (chosen[:, None] * RUN + np.arange(RUN)).reshape(-1)
    return rows[:, torch.from_numpy(index[index < rows.shape[1]])]
