"""The paper's regression as a bare numpy loop: what a round costs where nothing is a message.

All clients are one batched matrix product, nothing is packed, screened or sent; the arithmetic is the scenario's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Setting", "run_prototype"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """The regression of section 7: m nodes with N / m rows each, f of them Byzantine, Gaussian noise of this variance."""

    nodes: int = 200
    byzantine: int = 20
    trim: int = 22
    samples: int = 4000
    dimension: int = 1000
    variance: float = 10.0
    step_size: float = 0.444


def run_prototype(setting: Setting, rounds: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Run robust compressed gradient descent with scaled signs.

    Returns
    -------
    seconds : list of float
        Of each round.
    errors : list of float
        ||w_t - w*||_2 after each round.
    """
    s = setting
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((s.samples, s.dimension))
    solution = rng.standard_normal(s.dimension)
    b = a @ solution
    shares = a.reshape(s.nodes, -1, s.dimension)  # (m, n, d)
    w = np.zeros(s.dimension)
    seconds, errors = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        w = w - s.step_size * _mean_of_kept(_gradients(a, b, shares, w), s, rng)
        errors.append(float(np.linalg.norm(w - solution)))
        seconds.append(time.perf_counter() - started)
    return seconds, errors


def _gradients(a: Floats, b: Floats, shares: Floats, w: Floats) -> Floats:
    """Return the gradients of all nodes, shape (m, d)."""
    m, n, _ = shares.shape
    residuals = (a @ w - b) / n  # (N,)
    gradients: Floats = (residuals.reshape(m, 1, n) @ shares)[:, 0]  # (m, 1, n) @ (m, n, d)
    return gradients


def _mean_of_kept(gradients: Floats, s: Setting, rng: np.random.Generator) -> Floats:
    """Return the mean of the scaled signs of smallest norm, shape (d,)."""
    gradients[: s.byzantine] += rng.normal(0.0, np.sqrt(s.variance), (s.byzantine, s.dimension))
    scales = np.abs(gradients).mean(axis=1)  # ||Q(x)||_2 = scale sqrt(d): the scales sort as the norms do
    kept = np.argsort(scales, kind="stable")[: s.nodes - s.trim]
    signs = np.where(gradients[kept] >= 0, 1.0, -1.0)  # (m - trim, d)
    mean: Floats = (scales[kept] / len(kept)) @ signs
    return mean
