"""What a training function asks for its data: its own, or what an attack on labels makes of it."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message
from torch import Tensor

from flwr_robustcomp.clients.label_attack import LABEL_RECORD, LabelAttack, Poison
from flwr_robustcomp.component import find_subclass
from flwr_robustcomp.errors import ConfigurationError

__all__ = ["poison_of", "training_images", "training_labels"]


def poison_of(message: Message) -> Poison | None:
    """Return what a label attack asks of the node that received this message; None on honest nodes."""
    record = message.content.get(LABEL_RECORD)
    if not isinstance(record, ConfigRecord):
        return None
    params = dict(record)
    name, seed, partition = (str(params.pop(key)) for key in ("attack", "seed", "partition"))
    # The mod that marked the message has imported the class; a message never makes this process import one.
    attack = find_subclass(LabelAttack, name)  # type: ignore[type-abstract]
    if attack is None:
        raise ConfigurationError(f"label attack must be a LabelAttack that this app lists as a mod, got {name!r}")
    return Poison(attack(**params), int(seed), int(partition))  # type: ignore[arg-type]


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
    poison = poison_of(message)
    return labels if poison is None else poison(labels, num_classes)


def training_images(images: Tensor, message: Message) -> Tensor:
    """Return the images that this node trains on: its own, or those that a backdoor marks.

    Parameters
    ----------
    images : Tensor, shape (n, ...)
        The node's images, pixels in [0, 1], in the order of its labels.
    message : Message
        The server's message, as the training function received it.

    Returns
    -------
    Tensor
        ``images`` itself on honest nodes.
    """
    poison = poison_of(message)
    return images if poison is None else poison.stamp(images)
