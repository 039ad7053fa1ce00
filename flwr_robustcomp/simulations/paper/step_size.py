"""The step sizes of the reproduced figures: the paper gives none, so each follows from a rule (docs/figures.md)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from flwr_robustcomp.simulations.records.record import RoundRecord

__all__ = ["best_step", "inverse_smoothness", "largest_descending_step"]

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


def largest_descending_step(
    run: Callable[[float], Sequence[RoundRecord]], steps: Sequence[float]
) -> tuple[float, dict[str, list[float]]]:
    """Search the largest constant step with which the loss falls in every round of a pilot.

    Parameters
    ----------
    run : callable
        Runs the pilot of one step, and returns its records.
    steps : sequence of float
        What to try, at least one.

    Returns
    -------
    found : float
        The largest such step; the smallest of all if there is none.
    losses : dict of str to list of float
        Of the pilots that were run, from the largest step on, by step.
    """
    losses: dict[str, list[float]] = {}
    step = math.nan
    for step in sorted(steps, reverse=True):
        values = [math.inf if record["loss"] is None else float(record["loss"]) for record in run(step)]
        losses[f"{step:g}"] = values
        if all(after < before for before, after in itertools.pairwise(values)):
            break
    return step, losses


def _final(records: Sequence[RoundRecord]) -> float:
    value = records[-1]["error"]
    return math.inf if value is None else float(value)
