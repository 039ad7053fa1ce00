"""Rounding at random, without bias."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["coin_flips", "round_at_random"]

_STEPS = 1 << 16


def coin_flips(
    values: npt.NDArray[np.floating], one: float | npt.NDArray[np.floating], rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw one bit with each of the chances values / one.

    Parameters
    ----------
    values : numpy.ndarray, shape (d,), float32 or float64
        In [0, one]; overwritten.
    one : float or numpy.ndarray, shape (d,) or ()
        Positive; 2**16 / one must be finite in the values' dtype.
    rng : numpy.random.Generator
        Draws 16 bits for each, and a double for each of the few that those bits leave undecided.

    Returns
    -------
    numpy.ndarray, shape (d,), bool
        P(b = 1) is the chance, exactly.

    Notes
    -----
    16 random bits u stand for a uniform number in [u, u + 1) / 2^16. They decide unless the chance lies in the same one of the
    2^16 steps; then the place within the step is drawn too. Half as many random bits as a float32 needs make it the faster.
    """
    values *= np.asarray(_STEPS / one, values.dtype)
    step = np.minimum(values, values.dtype.type(_STEPS - 1)).astype(np.uint16)
    drawn = rng.integers(0, _STEPS, values.size, dtype=np.uint16)
    bits: npt.NDArray[np.bool_] = drawn < step
    undecided = np.flatnonzero(drawn == step)
    bits[undecided] = rng.random(undecided.size) < values[undecided] - step[undecided]
    return bits


def round_at_random(values: npt.NDArray[np.floating], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Round numbers in [0, 2**31), shape (d,), down or up so that the expectation is the number itself."""
    whole = values.astype(np.int32)
    whole += coin_flips(values - whole, 1.0, rng)
    return whole
