"""Honest vectors, and Byzantine ones made to break a bound: what the oracle of `Filter.reach` searches among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CROWDS", "SHAPES", "Colluder", "Matrix", "colluding_rows", "draw", "rows_of"]

Matrix = npt.NDArray[np.float64]

CROWDS = ("noise", "common mean", "of many lengths", "on a line", "the same")
"""What the honest vectors look like."""

SHAPES = ("rod", "other rod", "spike", "pair", "tie", "mean", "own", "noise")
"""What a Byzantine vector looks like: along the first or the second common direction, in one coordinate, the reverse of the
vector before, a copy of an honest one, along the honest mean, an honest vector with a push, or noise of its own."""


@dataclass(frozen=True)
class Colluder:
    """One Byzantine vector.

    Attributes
    ----------
    shape : str
        One of `SHAPES`.
    length : float
        In units of the largest honest norm.
    sign : int
        -1 or 1, along or against.
    """

    shape: str
    length: float
    sign: int = -1


def rows_of(crowd: str, honest: int, d: int, colluders: Sequence[Colluder], seed: int, scale: float = 1.0) -> Matrix:
    """Return all vectors, shape (honest + len(colluders), d), the honest ones first; their largest norm is ``scale``."""
    rng = np.random.default_rng(seed)
    x = _honest(crowd, honest, d, rng)
    return colluding_rows(x * (scale / np.linalg.norm(x, axis=1).max()), colluders, rng)


def colluding_rows(x: Matrix, colluders: Sequence[Colluder], rng: np.random.Generator) -> Matrix:
    """Return honest vectors, shape (h, d), and under them what colluders send, shape (h + len(colluders), d)."""
    honest, d = x.shape
    scale = float(np.linalg.norm(x, axis=1).max())
    mean: Matrix = np.asarray(x.mean(axis=0))
    rod, other = (_unit(rng.standard_normal((d,))) for _ in range(2))
    rows: list[Matrix] = list(x)
    for i, one in enumerate(colluders):
        match one.shape:
            case "rod":
                direction = rod
            case "other rod":
                direction = other
            case "spike":
                direction = np.eye(d)[int(np.abs(mean).argmax())]
            case "pair" if i:
                direction = -_unit(rows[-1])
            case "tie":
                direction = _unit(x[i % honest])
            case "mean":
                direction = _unit(mean)
            case _:
                direction = _unit(rng.standard_normal((d,)))
        own = x[i % honest] if one.shape == "own" else 0.0
        rows.append(own + one.sign * one.length * scale * direction)
    return np.stack(rows)


def draw(rng: np.random.Generator, most: int) -> tuple[str, list[Colluder]]:
    """Draw a crowd and at most ``most`` colluders: equal ones, ladders, lengths near the honest ones, and huge ones."""
    crowd = CROWDS[int(rng.integers(len(CROWDS)))]
    count = most if rng.random() < 0.7 else int(rng.integers(1, most + 1)) if most else 0
    shapes = [SHAPES[int(k)] for k in rng.integers(len(SHAPES), size=1 + int(rng.integers(3)))]
    match int(rng.integers(4)):
        case 0:  # a ladder
            steps = 10.0 ** rng.uniform(0, 60 / max(1, count))
            lengths = 10.0 ** rng.uniform(-1, 2) * steps ** np.arange(count)
        case 1:  # near the honest
            lengths = rng.uniform(0.5, 4.0, size=count)
        case 2:  # all alike
            lengths = np.full(count, 10.0 ** rng.uniform(-2, 3))
        case _:
            lengths = 10.0 ** rng.uniform(-3, 60, size=count) if rng.random() < 0.5 else 10.0 ** rng.uniform(-2, 2, size=count)
    signs = rng.choice([-1, 1], size=count) if rng.random() < 0.3 else np.full(count, -1)
    return crowd, [
        Colluder(shapes[i % len(shapes)], float(length), int(sign))
        for i, (length, sign) in enumerate(zip(lengths, signs, strict=True))
    ]


def _honest(crowd: str, honest: int, d: int, rng: np.random.Generator) -> Matrix:
    x = rng.standard_normal((honest, d))
    match crowd:
        case "common mean":
            return np.asarray(x + rng.uniform(0.1, 10) * rng.standard_normal(d))
        case "of many lengths":
            return np.asarray(x * 10.0 ** rng.uniform(-1.5, 0, size=(honest, 1)))
        case "on a line":
            return np.asarray(rng.standard_normal((honest, 1)) * rng.standard_normal(d))
        case "the same":
            return np.tile(x[:1], (honest, 1))
        case _:
            return x


def _unit(v: Matrix) -> Matrix:
    norm = float(np.linalg.norm(v))
    return v / norm if norm > 0 else np.eye(v.size)[0]
