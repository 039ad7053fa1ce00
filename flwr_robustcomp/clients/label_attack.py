"""Byzantine nodes that train on wrong data: the attacks of the paper's network experiments, and their relatives.

A mod cannot reach into a training function's data. It tells the function, in the message, what to do to its data; the
function passes its labels through `training_labels`, which changes nothing on honest nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable
from torch import Tensor

from flwr_robustcomp.clients.attack import Attack, Kind
from flwr_robustcomp.clients.node import partition_of, seed_of
from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator

__all__ = ["LABEL_RECORD", "FlippedLabels", "LabelAttack", "Poison", "RandomLabels", "ShiftedLabels"]

LABEL_RECORD = "robustcomp.labels"
"""Name of the ConfigRecord by which a label attack reaches the training function."""


class LabelAttack(Attack, ABC):
    """A mod that makes Byzantine nodes train on labels of `relabel`'s making; its options are those of `Attack`.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import LabelAttack
    >>> class Successor(LabelAttack):
    ...     name = "successor-class"
    ...     def relabel(self, labels, num_classes, rng):
    ...         return (labels + 1) % num_classes
    >>> Successor(partitions=[3]).relabel(torch.tensor([0, 9]), 10, None)
    tensor([1, 0])
    """

    kind: ClassVar[Kind] = "label"

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Mark the message on Byzantine nodes."""
        if self.lies_to(message, context):
            seed, partition = seed_of(context, self.seed), partition_of(context)
            message.content[LABEL_RECORD] = ConfigRecord(
                {"attack": self.name, "seed": seed, "partition": partition, **self.params}
            )
        return call_next(message, context)

    @property
    def params(self) -> Mapping[str, Any]:
        """The constructor's own parameters, which travel with the message."""
        return {}

    @abstractmethod
    def relabel(self, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return the wrong labels, shape and dtype of ``labels``."""

    def stamp(self, images: Tensor) -> Tensor:
        """Return the inputs to train on, first dimension that of the labels; most attacks leave them as they are."""
        return images


class ShiftedLabels(LabelAttack):
    """Replace y by C - 1 - y, which is 9 - y for ten classes (the paper, section 7).

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import ShiftedLabels
    >>> ShiftedLabels(partitions=[3]).relabel(torch.tensor([0, 7]), 10, None)
    tensor([9, 2])
    """

    name: ClassVar[str] = "shifted-labels"

    def relabel(self, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return C - 1 - y."""
        return num_classes - 1 - labels


class RandomLabels(LabelAttack):
    """Replace every label by a random class, the same in every round (the paper, section 7).

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import Poison, RandomLabels
    >>> Poison(RandomLabels(), seed=0, partition=3)(torch.zeros(5, dtype=torch.int64), num_classes=10)
    tensor([5, 6, 6, 7, 4])
    """

    name: ClassVar[str] = "random-labels"

    def relabel(self, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return labels drawn uniformly."""
        return torch.from_numpy(rng.integers(0, num_classes, tuple(labels.shape))).to(labels.dtype)


class FlippedLabels(LabelAttack):
    """Call one class another, and leave the rest alone (Tolpegin et al. 2020).

    Parameters
    ----------
    source, target : int
        Every ``source`` is called ``target``; different classes.
    **options
        Those of `Attack`.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import FlippedLabels
    >>> FlippedLabels(source=7, target=1).relabel(torch.tensor([0, 7]), 10, None)
    tensor([0, 1])
    """

    name: ClassVar[str] = "flipped-labels"

    def __init__(self, source: int = 7, target: int = 1, **options: Any) -> None:
        require(source >= 0, "source", source, "a class, at least 0")
        require(target >= 0 and target != source, "target", target, f"a class other than source = {source}")
        super().__init__(**options)
        self.source = source
        self.target = target

    @property
    def params(self) -> Mapping[str, Any]:
        """Source and target."""
        return {"source": self.source, "target": self.target}

    def relabel(self, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return the labels with ``source`` called ``target``."""
        for name, value in self.params.items():
            require(value < num_classes, name, value, f"one of the {num_classes} classes")
        return torch.where(labels == self.source, self.target, labels)


@dataclass(frozen=True)
class Poison:
    """What one Byzantine node's training function does to its data; called like a `Relabel`.

    Attributes
    ----------
    attack : LabelAttack
        Whose making it is.
    seed, partition : int
        Of its random numbers, the same in every round.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import Poison, ShiftedLabels
    >>> Poison(ShiftedLabels(), seed=0, partition=3)(torch.tensor([0, 7]), num_classes=10)
    tensor([9, 2])
    """

    attack: LabelAttack
    seed: int
    partition: int

    def __call__(self, labels: Tensor, num_classes: int) -> Tensor:
        """Return the labels to train on."""
        require(num_classes >= 2, "num_classes", num_classes, "at least 2")
        rng = generator(self.seed, self.attack.name, partition=self.partition)
        return self.attack.relabel(labels, num_classes, rng)

    def stamp(self, images: Tensor) -> Tensor:
        """Return the inputs to train on."""
        return self.attack.stamp(images)
