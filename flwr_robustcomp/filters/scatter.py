"""The scatter of vectors about their mean, as far as a Gram matrix shows it."""

from __future__ import annotations

import numpy as np

from flwr_robustcomp.filters.vectors import Matrix

__all__ = ["ROUNDINGS", "centred", "is_rounding"]

ROUNDINGS = 16
"""Units in the last place by which an inner product may be off: it depends on the processor's order of additions. Entries that
are off by that much move an eigenvalue by at most as much times their number in a row."""


def centred(gram: Matrix, shares: Matrix | None = None) -> Matrix:
    """Return the Gram matrix of k vectors minus a mean of them, symmetric if the Gram matrix is.

    Parameters
    ----------
    gram : numpy.ndarray, shape (k, k), float64
        Inner products.
    shares : numpy.ndarray, shape (k,), float64, optional
        The coefficients w of the mean, adding up to 1; by default 1/k each.

    Returns
    -------
    numpy.ndarray, shape (k, k), float64
        (I - 1 w^T) G (I - w 1^T). With equal shares its non-zero eigenvalues are those of the scatter.
    """
    means = gram.mean(axis=0) if shares is None else gram @ shares  # <x_i, mean>, shape (k,)
    square = means.mean() if shares is None else shares @ means
    return np.asarray(gram - (means[None, :] + means[:, None]) + square)


def is_rounding(value: float, gram: Matrix) -> bool:
    """Whether an eigenvalue of the scatter is what rounding of the Gram matrix alone can make."""
    return value <= ROUNDINGS * float(np.finfo(np.float64).eps) * len(gram) * float(np.abs(gram).max())
