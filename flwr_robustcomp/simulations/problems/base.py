"""What a simulated learning problem must offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from flwr_robustcomp.clients import Poison
from flwr_robustcomp.clients.update import Reply

__all__ = ["BatchedProblem", "FullBatch", "Problem", "Relabel", "RootedProblem", "StampedProblem", "stamped", "true_labels"]

Relabel = Callable[[Tensor, int], Tensor]
"""(labels, number of classes) -> the labels to train on. A `Poison` also changes the images: see `stamped`."""


def true_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Return the labels: an honest node's `Relabel`."""
    return labels


def stamped(images: Tensor, relabel: Relabel) -> Tensor:
    """Return the images to train on: the node's own, or what a `Poison` makes of them."""
    return relabel.stamp(images) if isinstance(relabel, Poison) else images


@runtime_checkable
class Problem(Protocol):
    """Data for every node, a model, its gradients and its error; deterministic in the seed, partition by partition.

    Attributes
    ----------
    metric : str
        The key of `evaluate` that curves and tables show.
    better : {"lower", "higher"}
        Which end of that metric is good.
    labelled : bool
        Whether `gradient` has labels to relabel; where it has none, an attack on labels would do nothing.
    reply : {"weights", "update"}
        Whether `train` returns new weights, or the gradient for the server's step.
    """

    metric: str
    better: str
    labelled: bool
    reply: Reply

    def initial(self) -> dict[str, Tensor]:
        """Return w_0."""

    def gradient(self, partition: int, model: dict[str, Tensor], relabel: Relabel) -> dict[str, Tensor]:
        """Return the full-batch gradient of a node's local loss F_i at ``model``, array by array."""

    def train(self, partition: int, model: dict[str, Tensor], relabel: Relabel, round_: int) -> dict[str, Tensor]:
        """Return what a node replies with in a round."""

    def num_examples(self, partition: int) -> int:
        """Return the number n of a node's data points."""

    def evaluate(self, model: dict[str, Tensor]) -> dict[str, float]:
        """Return the metrics of a model, computed centrally."""


class FullBatch:
    """A problem whose nodes reply with the full-batch gradient, as in the paper."""

    reply: Reply = "update"

    def gradient(self, partition: int, model: dict[str, Tensor], relabel: Relabel) -> dict[str, Tensor]:
        """Return the gradient of F_i."""
        raise NotImplementedError

    def train(self, partition: int, model: dict[str, Tensor], relabel: Relabel, round_: int) -> dict[str, Tensor]:
        """Return the gradient; it is the same in every round."""
        return self.gradient(partition, model, relabel)


@runtime_checkable
class BatchedProblem(Protocol):
    """A problem that computes the gradients of many nodes faster than one by one."""

    def gradients(self, partitions: Sequence[int], model: dict[str, Tensor], relabels: Sequence[Relabel]) -> dict[str, Tensor]:
        """Return the k gradients stacked, each array of shape (k, ...); `gradient`'s numbers to rounding."""


@runtime_checkable
class StampedProblem(Protocol):
    """A problem of images that a backdoor can mark: `Problem.gradient` passes them through `stamped`."""

    def backdoor(self, model: dict[str, Tensor], size: int, target: int) -> float:
        """Return the share of the marked test images, of classes other than ``target``, that the model calls ``target``."""


@runtime_checkable
class RootedProblem(Protocol):
    """A problem of which the server can hold a clean sample: what the sample is follows from the seed and its size alone."""

    def train_root(self, samples: int, model: dict[str, Tensor], round_: int, epochs: int = 1) -> dict[str, Tensor]:
        """Return what an honest node with so many clean examples would reply with, after ``epochs`` times its local epochs."""

    def root_loss(self, samples: int, model: dict[str, Tensor]) -> float:
        """Return the mean loss of a model on these examples."""
