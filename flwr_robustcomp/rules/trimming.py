"""The trimmed mean by coordinates: of scaled signs from counts, of everything else from blocks of columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.columns import Columns
from flwr_robustcomp.filters import Matrix
from flwr_robustcomp.rules.base import Mass
from flwr_robustcomp.rules.sign_ranks import add_uncut_signs

__all__ = ["add_trimmed_mean", "trimmed_columns"]

Floats = npt.NDArray[np.floating]


def add_trimmed_mean(out: Tensor, columns: Columns, coefficients: Matrix, cut: int) -> Mass:
    """Add the trimmed mean of combinations of packed vectors to ``out``, shape (d,).

    Parameters
    ----------
    out : Tensor, shape (d,), float32 or float64
        In the model's basis; the trimming is done in the one that the vectors share.
    columns : Columns
        m vectors.
    coefficients : numpy.ndarray, shape (k, m), float64
        The combinations, none negative.
    cut : int
        Below k / 2: how many values go on each side.
    """
    k = len(coefficients)
    total = np.zeros(columns.size, out.numpy().dtype)
    chosen = _picked(coefficients)
    if columns.signs is not None and chosen is not None:
        mass = add_uncut_signs(total, columns.signs, *chosen, cut)
        total /= k - 2 * cut
    else:
        mass = Mass(np.zeros(k), np.zeros(k))
        for start, block in columns.blocks():
            means, part = trimmed_columns(_combined(coefficients, chosen, block.numpy()), cut)
            total[start : start + means.size] = means
            mass += part
    out += columns.in_model(torch.from_numpy(total))
    return mass


def trimmed_columns(values: Floats, cut: int) -> tuple[Floats, Mass]:
    """Return the trimmed means of the columns of a matrix, shape (k, c), and what survived of its rows.

    Of values that are equal where the cut falls, all count as surviving.
    """
    k, double = len(values), np.float64
    ordered = np.partition(values, sorted({cut, k - cut - 1}), axis=0) if cut else values
    kept = ordered[cut : k - cut]
    means = kept.mean(axis=0, dtype=double).astype(values.dtype)
    magnitudes = np.abs(values)
    inside = (values >= ordered[cut]) & (values <= ordered[k - cut - 1]) if cut else np.ones(values.shape, np.bool_)
    return means, Mass(magnitudes.sum(axis=1, dtype=double), np.where(inside, magnitudes, 0).sum(axis=1, dtype=double))


def _picked(coefficients: Matrix) -> tuple[npt.NDArray[np.intp], Matrix] | None:
    """Return which vector each row scales, and by how much, both of shape (k,); None where a row mixes several."""
    if (np.count_nonzero(coefficients, axis=1) > 1).any():
        return None
    chosen = np.asarray(coefficients.argmax(axis=1))
    return chosen, coefficients[np.arange(chosen.size), chosen]


def _combined(coefficients: Matrix, chosen: tuple[npt.NDArray[np.intp], Matrix] | None, block: Floats) -> Floats:
    """Return the combinations of a block of columns, shape (k, c)."""
    if chosen is None:
        return np.asarray(coefficients.astype(block.dtype) @ block)
    return np.asarray(block[chosen[0]] * chosen[1][:, None].astype(block.dtype))
