"""The step sizes of the reproduced figures: the paper gives none, so each follows from a rule (docs/figures.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from flwr_robustcomp.simulations.record import RoundRecord

__all__ = ["best_step", "inverse_smoothness"]

_COARSE = [2.0**k for k in range(-11, -1)]  # 0.0005 ... 0.25


def inverse_smoothness(samples: int, dimension: int) -> float:
    """Return 1/L_F for least squares on N rows of d standard normal entries.

    Theorems 1 to 3 take gamma = c/L_F. With F(w) = (1/2N) ||Aw - b||^2, L_F is the largest eigenvalue of A^T A / N, which
    tends to (1 + sqrt(d/N))^2 (Marchenko and Pastur 1967): 2.25 for the paper's N = 4000, d = 1000.
    """
    return 1.0 / (1.0 + math.sqrt(dimension / samples)) ** 2


def best_step(run: Callable[[Sequence[float]], Sequence[Sequence[RoundRecord]]]) -> tuple[float, dict[str, float]]:
    """Search the constant step with the smallest error after the last round.

    Parameters
    ----------
    run : callable
        Runs one pilot for each of the steps given, and returns their records.

    Returns
    -------
    best : float
        On a grid of powers of two from 2^-11 to 2^-2, refined once by factors of sqrt(2).
    errors : dict of str to float
        The pilots' final errors by step.
    """
    errors: dict[float, float] = {}

    def measure(steps: Sequence[float]) -> float:
        new = [step for step in steps if step not in errors]
        errors.update({s: _final(records) for s, records in zip(new, run(new), strict=True)})
        return min(errors, key=lambda step: (errors[step], step))

    coarse = measure(_COARSE)
    best = measure([coarse / math.sqrt(2), coarse * math.sqrt(2)])
    return best, {f"{step:.6g}": errors[step] for step in sorted(errors)}


def _final(records: Sequence[RoundRecord]) -> float:
    value = records[-1]["error"]
    return math.inf if value is None else float(value)
