"""Byzantine nodes that train on wrong labels: the attacks of the paper's network experiments.

A mod cannot reach into a training function's data. It tells the function, in the message, what to do to its labels; the
function passes its labels through `training_labels`, which changes nothing on honest nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp.clients.node import is_training, partition_of, seed_of
from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.randomness import generator

__all__ = ["LABEL_RECORD", "LabelAttack", "RandomLabels", "ShiftedLabels", "training_labels"]

LABEL_RECORD = "robustcomp.labels"
"""Name of the ConfigRecord by which a label attack reaches the training function."""


class LabelAttack(ABC):
    """A mod that makes Byzantine nodes train on labels of `relabel`'s making.

    Parameters
    ----------
    partitions : collection of int, optional
        The partition ids of the Byzantine nodes; None makes every node that runs this app Byzantine.
    seed : int, optional
        Of the attack's random numbers; by default the run config's ``seed``, else 0.
    """

    name: ClassVar[str]

    def __init__(self, *, partitions: Collection[int] | None = None, seed: int | None = None) -> None:
        self.partitions = partitions
        self.seed = seed

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Mark the message on Byzantine nodes."""
        partition = partition_of(context)
        if is_training(message) and (self.partitions is None or partition in self.partitions):
            seed = seed_of(context, self.seed)
            message.content[LABEL_RECORD] = ConfigRecord({"attack": self.name, "seed": seed, "partition": partition})
        return call_next(message, context)

    @staticmethod
    @abstractmethod
    def relabel(labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return the wrong labels, shape and dtype of ``labels``."""


class ShiftedLabels(LabelAttack):
    """Replace y by C - 1 - y, which is 9 - y for ten classes (the paper, section 7)."""

    name: ClassVar[str] = "shifted-labels"

    @staticmethod
    def relabel(labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return C - 1 - y."""
        return num_classes - 1 - labels


class RandomLabels(LabelAttack):
    """Replace every label by a random class, the same in every round (the paper, section 7)."""

    name: ClassVar[str] = "random-labels"

    @staticmethod
    def relabel(labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return labels drawn uniformly."""
        return torch.from_numpy(rng.integers(0, num_classes, tuple(labels.shape))).to(labels.dtype)


_ATTACKS: dict[str, type[LabelAttack]] = {cls.name: cls for cls in (ShiftedLabels, RandomLabels)}


def training_labels(labels: Tensor, num_classes: int, message: Message, context: Context) -> Tensor:
    """Return the labels that this node trains on: its own, or an attack's.

    Parameters
    ----------
    labels : Tensor, integers in [0, num_classes)
        The node's labels.
    num_classes : int
        C, at least 2.
    message : Message
        The server's message, as the training function received it.
    context : Context
        The node's context.

    Returns
    -------
    Tensor
        ``labels`` itself on honest nodes.
    """
    record = message.content.get(LABEL_RECORD)
    if not isinstance(record, ConfigRecord):
        return labels
    require(num_classes >= 2, "num_classes", num_classes, "at least 2")
    name = record["attack"]
    if name not in _ATTACKS:
        raise ConfigurationError(f"label attack must be one of {', '.join(_ATTACKS)}, got {name!r}")
    rng = generator(int(str(record["seed"])), str(name), partition=int(str(record["partition"])))
    return _ATTACKS[str(name)].relabel(labels, num_classes, rng)
