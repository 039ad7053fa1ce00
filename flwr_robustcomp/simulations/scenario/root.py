"""The server's clean sample in a scenario: what a deployment writes as one function follows from the problem here."""

from __future__ import annotations

from flwr.app import ArrayRecord
from torch import Tensor

from flwr_robustcomp import wire
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.simulations.problems import Problem, RootedProblem
from flwr_robustcomp.strategies import TrustedRoot

__all__ = ["scenario_root"]


def scenario_root(problem: Problem, name: str, samples: int, epochs: int) -> TrustedRoot:
    """Return a root that trains on ``samples`` clean examples as an honest node does, ``epochs`` times as often.

    It runs where the strategy does, so the curve is the same on every engine.

    Raises
    ------
    ConfigurationError
        If the problem has no sample for a server, or fewer examples.
    """
    if not isinstance(problem, RootedProblem):
        raise ConfigurationError(f"root_samples must be 0 for the problem {name!r}, which has none for a server, got {samples}")
    local = problem.reply == "weights"
    require(epochs == 1 or local, "root_epochs", epochs, f"1 for the problem {name!r}, whose nodes reply with a gradient")
    rooted = problem

    def train(server_round: int, arrays: ArrayRecord) -> dict[str, Tensor]:
        return rooted.train_root(samples, wire.from_arrays(arrays), server_round, epochs)

    def loss(server_round: int, arrays: ArrayRecord) -> float:
        return rooted.root_loss(samples, wire.from_arrays(arrays))

    rooted.root_loss(samples, problem.initial())  # more samples than there are: now, and not in a round
    return TrustedRoot(train, loss, reply=problem.reply)
