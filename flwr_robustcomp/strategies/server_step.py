"""What the server does with the aggregated update: a plain step, momentum, or an adaptive step; pure functions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.strategies.kept_state import check_vectors

__all__ = ["LARGEST_STEP", "Adam", "Momentum", "Plain", "ServerStep", "StepState", "check_step_size"]

StepState = dict[str, Tensor]
"""What a step carries to the next round: vectors of shape (d,), by name; empty at the start."""


LARGEST_STEP = torch.finfo(torch.float32).max
"""A larger gamma cannot multiply a float32 vector: torch refuses it, in the middle of a round."""


def check_step_size(step_size: float) -> None:
    """Raise `ConfigurationError` unless gamma is a positive number that a float32 vector can be multiplied by."""
    require(0 < step_size <= LARGEST_STEP, "step_size", step_size, f"positive and at most {LARGEST_STEP:.2g}")


@dataclass(frozen=True)
class ServerStep(ABC):
    """From the aggregated update to what is subtracted from w_t; state comes in and goes out.

    Parameters
    ----------
    step_size : float
        gamma, positive.

    Attributes
    ----------
    carries : tuple of str, or None
        Names of the vectors that it carries; None for a step of your own whose state nothing is known of.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.strategies import ServerStep
    >>> class SignStep(ServerStep):
    ...     def apply(self, update, state, round_):
    ...         return update.sign() * self.step_size, state
    >>> SignStep(0.5).apply(torch.tensor([3.0, -2.0]), {}, 1)
    (tensor([ 0.5000, -0.5000]), {})
    """

    carries: ClassVar[tuple[str, ...] | None] = None

    step_size: float = 1.0

    def __post_init__(self) -> None:
        check_step_size(self.step_size)

    @abstractmethod
    def apply(self, update: Tensor, state: StepState, round_: int) -> tuple[Tensor, StepState]:
        """Return what to subtract from w_t, shape (d,), and the state for the next round.

        Parameters
        ----------
        update : Tensor, shape (d,)
            The aggregate of x = w_t - w_local; may be written to.
        state : dict of str to Tensor
            What the last call returned.
        round_ : int
            The server round, from 1.
        """

    def check_state(self, state: StepState, d: int | None = None, dtype: torch.dtype | None = None) -> None:
        """Refuse a state from a checkpoint that `apply` cannot have returned; the empty one is the start's.

        Parameters
        ----------
        state : dict of str to Tensor
            As it was read.
        d : int, optional
            Length of its vectors, where the model is known.
        dtype : torch.dtype, optional
            Of its vectors, where the model is known.

        Raises
        ------
        ConfigurationError
            If a vector is missing or one too many, or is no finite vector of this length and dtype.
        """
        if self.carries is None or not state:
            return
        require(set(state) == set(self.carries), "what the step carries", sorted(state), f"{list(self.carries)}")
        check_vectors("the step's", state, d, dtype)


@dataclass(frozen=True)
class Plain(ServerStep):
    """w_{t+1} = w_t - gamma x.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.strategies import Plain
    >>> Plain(0.5).apply(torch.tensor([2.0]), {}, 1)
    (tensor([1.]), {})
    """

    carries: ClassVar[tuple[str, ...] | None] = ()

    def apply(self, update: Tensor, state: StepState, round_: int) -> tuple[Tensor, StepState]:
        """Scale."""
        return update.mul_(self.step_size), state


@dataclass(frozen=True)
class Momentum(ServerStep):
    """u <- beta u + x, w_{t+1} = w_t - gamma u: the semantics of Flower's FedAvgM.

    Parameters
    ----------
    beta : float
        In [0, 1).

    Notes
    -----
    Hsu et al. 2019. u starts as the first round's x.

    Examples
    --------
    >>> from flwr_robustcomp import L1Sign, Momentum, RobustCompressed
    >>> RobustCompressed(compressor=L1Sign(), trim=0.2, step=Momentum(0.5, beta=0.8)).step
    Momentum(step_size=0.5, beta=0.8)
    """

    carries: ClassVar[tuple[str, ...] | None] = ("momentum",)

    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta < 1, "beta", self.beta, "in [0, 1)")

    def apply(self, update: Tensor, state: StepState, round_: int) -> tuple[Tensor, StepState]:
        """Accumulate, then scale."""
        momentum = update if "momentum" not in state else update.add_(state["momentum"], alpha=self.beta)
        return momentum * self.step_size, {"momentum": momentum}


@dataclass(frozen=True)
class Adam(ServerStep):
    """m <- b1 m + (1 - b1) x, v <- b2 v + (1 - b2) x^2, w_{t+1} = w_t - gamma_t m / (sqrt(v) + tau): Flower's FedAdam.

    Parameters
    ----------
    step_size : float
        eta; gamma_t = eta sqrt(1 - b2^(t+1)) / (1 - b1^(t+1)) in round t, as Flower counts.
    beta_1, beta_2 : float
        In [0, 1).
    tau : float
        Positive; bounds the step where v is small.

    Notes
    -----
    Reddi et al. 2021, Algorithm 2.

    Examples
    --------
    >>> from flwr_robustcomp import Adam, L1Sign, RobustCompressed
    >>> RobustCompressed(compressor=L1Sign(), trim=0.2, step=Adam(0.01)).step
    Adam(step_size=0.01, beta_1=0.9, beta_2=0.99, tau=0.001)
    """

    carries: ClassVar[tuple[str, ...] | None] = ("first", "second")

    step_size: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta_1 < 1, "beta_1", self.beta_1, "in [0, 1)")
        require(0 <= self.beta_2 < 1, "beta_2", self.beta_2, "in [0, 1)")
        require(self.tau > 0 and math.isfinite(self.tau), "tau", self.tau, "positive and finite")

    def apply(self, update: Tensor, state: StepState, round_: int) -> tuple[Tensor, StepState]:
        """Update both moments, then divide."""
        first = state["first"] if state else torch.zeros_like(update)
        second = state["second"] if state else torch.zeros_like(update)
        first = self.beta_1 * first + (1 - self.beta_1) * update
        second = self.beta_2 * second + (1 - self.beta_2) * update.square()
        correction = math.sqrt(1 - self.beta_2 ** (round_ + 1)) / (1 - self.beta_1 ** (round_ + 1))
        return first / (second.sqrt() + self.tau) * (self.step_size * correction), {"first": first, "second": second}

    def check_state(self, state: StepState, d: int | None = None, dtype: torch.dtype | None = None) -> None:
        """Ask also for a second moment that has a root."""
        super().check_state(state, d, dtype)
        require(not state or bool((state["second"] >= 0).all()), "the step's 'second'", "a negative entry", "at least 0")
