"""Compressors that lose as much as their delta allows, in the directions that hurt."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]

ATTACKS = ["shrink", "stretch", "either", "random", "together"]


def units(x: Rows) -> Rows:
    """Return each row at length 1, zero rows as they are."""
    lengths: Rows = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.maximum(lengths, 1e-300)


def compressed(z: Rows, delta: float, attack: str, rng: np.random.Generator) -> Rows:
    """Return C(z) with ||C(z) - z||^2 = (1 - delta) ||z||^2 for each row.

    Too short, too long, the one or the other, wrong in any direction, or all rows wrong in the same one.
    """
    match attack:
        case "shrink" | "stretch":
            way = z * (1.0 if attack == "stretch" else -1.0)
        case "either":
            way = z * rng.choice([-1.0, 1.0])
        case "together":
            way = np.ones_like(z) * rng.choice([-1.0, 1.0])
        case _:
            way = rng.standard_normal(z.shape)
    lengths: Rows = np.linalg.norm(z, axis=-1, keepdims=True)
    return z + math.sqrt(1 - delta) * lengths * units(way)
