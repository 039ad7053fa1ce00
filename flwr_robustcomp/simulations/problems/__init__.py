"""The learning problems that scenarios can name.

`PROBLEMS` is their closed registry. Builds on no other part of the simulations.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr_robustcomp.simulations.problems.base import (
    BatchedProblem,
    Problem,
    Relabel,
    RootedProblem,
    StampedProblem,
    stamped,
    true_labels,
)
from flwr_robustcomp.simulations.problems.classification import Classification
from flwr_robustcomp.simulations.problems.digits import Digits
from flwr_robustcomp.simulations.problems.least_squares import LeastSquares

__all__ = [
    "PROBLEMS",
    "BatchedProblem",
    "Classification",
    "Digits",
    "LeastSquares",
    "Problem",
    "Relabel",
    "RootedProblem",
    "StampedProblem",
    "stamped",
    "true_labels",
]

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "classification": Classification,
    "digits": Digits,
    "least-squares": LeastSquares,
}
"""Every problem by the name that scenarios use."""
