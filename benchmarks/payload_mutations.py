"""Ways to spoil the bytes of a payload."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["mutated"]

_DOUBLES = (math.nan, math.inf, -0.0, 1e308, 5e-324, 1.0)


def mutated(data: bytes, others: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """Return bytes changed one to three times: overwritten, cut off, repeated, added, spliced, or noise."""
    base = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(base))) if base else 0
        match int(rng.integers(8)):
            case 0 if base:
                base[place] ^= 1 << int(rng.integers(8))
            case 1 if base:
                base[place] = int(rng.choice([0, 1, 2, 127, 128, 255]))
            case 2:
                del base[place:]
            case 3:
                base += rng.bytes(int(rng.integers(1, 9)))
            case 4:
                base = base[:place] + bytearray(others[int(rng.integers(len(others)))][place:])
            case 5:
                base[place : place + 8] = np.float64(rng.choice(_DOUBLES)).tobytes()
            case 6:
                base[place:place] = base[place : place + 4]
            case _:
                base[:] = rng.bytes(len(base))
    return bytes(base)
