"""Min-max and min-sum: as far from the honest mean as the honest are from each other (Shejwalkar and Houmansadr 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen

__all__ = ["Direction", "MinMax", "MinSum"]

Direction = Literal["unit", "sign", "std"]
"""The perturbation p: -mean / ||mean||, -sign(mean), or minus the standard deviation by coordinate."""


@dataclass(frozen=True)
class _Perturbed(Collusion):
    """Mean + gamma p with the largest gamma that a bound on distances allows.

    Parameters
    ----------
    direction : {"unit", "sign", "std"}
        p (Shejwalkar and Houmansadr 2021).
    """

    direction: Direction = "std"

    def __post_init__(self) -> None:
        allowed = get_args(Direction)
        require(self.direction in allowed, "direction", self.direction, f"one of {', '.join(allowed)}")

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return mean + gamma p."""
        mean = seen.mean
        p = _perturbation(seen, self.direction)
        if not p.any():  # the honest agree on every coordinate that p would move
            return mean, state
        centred = seen.honest - mean  # (h, d)
        gram = (centred @ centred.T).double()  # (h, h)
        squares = gram.diagonal()
        distances = (squares[:, None] + squares[None, :] - 2 * gram).clamp_(min=0)  # (h, h), squared
        gamma = self._gamma(distances, squares, (centred @ p).double(), float(p.double() @ p.double()))
        return mean + gamma * p, state

    def _gamma(self, distances: Tensor, squares: Tensor, inner: Tensor, p2: float) -> float:
        """Return the largest gamma, from ||x_i - x_j||^2, ||c_i||^2, <c_i, p> and ||p||^2, where c_i = x_i - mean."""
        raise NotImplementedError


@dataclass(frozen=True)
class MinMax(_Perturbed):
    """Stay within the largest distance between two honest vectors, from every one of them.

    Notes
    -----
    ||mean + gamma p - x_i||^2 = gamma^2 ||p||^2 - 2 gamma <c_i, p> + ||c_i||^2 <= D^2 is a quadratic inequality for each i,
    so the largest gamma is the least of h roots; the paper's search by bisection, without its tolerance. The mean lies in the
    convex hull, hence ||c_i|| <= D and every root is real and non-negative.
    """

    name: ClassVar[str] = "min-max"

    def _gamma(self, distances: Tensor, squares: Tensor, inner: Tensor, p2: float) -> float:
        slack = (distances.max() - squares).clamp_(min=0)
        return float(((inner + (inner**2 + p2 * slack).sqrt()) / p2).min())


@dataclass(frozen=True)
class MinSum(_Perturbed):
    """Stay within the largest sum of squared distances from one honest vector to the others.

    Notes
    -----
    sum_i ||mean + gamma p - x_i||^2 = h gamma^2 ||p||^2 + sum_i ||c_i||^2, the mixed term being zero, so gamma is one square
    root. The mean minimises that sum, hence the root is real.
    """

    name: ClassVar[str] = "min-sum"

    def _gamma(self, distances: Tensor, squares: Tensor, inner: Tensor, p2: float) -> float:
        slack = (distances.sum(dim=1).max() - squares.sum()).clamp_(min=0)
        return float((slack / (len(squares) * p2)).sqrt())


def _perturbation(seen: Seen, direction: Direction) -> Tensor:
    """Return p, shape (d,)."""
    if direction == "std":
        return -seen.spread
    mean = seen.mean
    if direction == "sign":
        return -torch.sign(mean)
    length = torch.linalg.vector_norm(mean)
    return -mean / length if length > 0 else torch.zeros_like(mean)
