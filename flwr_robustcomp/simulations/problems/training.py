"""What a node computes from its images and the model: a gradient, many nodes' gradients at once, or weights after local epochs.

Pure functions of a module's structure; the weights come from the server in every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from flwr_robustcomp.errors import require

__all__ = ["LocalSGD", "gradient", "local_weights", "stacked_gradients"]


@dataclass(frozen=True, kw_only=True)
class LocalSGD:
    """Minibatch SGD on the node (McMahan et al. 2017).

    Attributes
    ----------
    epochs : int
        Passes over the node's images in a round.
    batch_size : int
        Images of a step; the last of an epoch may have fewer.
    learning_rate : float
        Of the node; the strategy's step_size then is 1.
    momentum : float
        In [0, 1), torch's heavy ball, started anew in every round. `ClientMomentum` is the one that lasts.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "problem.epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "problem.batch_size", self.batch_size, "at least 1")
        rate = self.learning_rate
        require(0 < rate < float("inf"), "problem.learning_rate", rate, "positive and finite")
        require(0 <= self.momentum < 1, "problem.momentum", self.momentum, "in [0, 1)")


def gradient(module: nn.Module, model: Mapping[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy, and buffers as the forward pass leaves them.

    Parameters
    ----------
    module : nn.Module
        The structure, in training mode; its own weights are not used.
    model : mapping of str to Tensor
        Parameters and buffers.
    images : Tensor, shape (n, channels, height, width)
        Full batch.
    labels : Tensor, shape (n,), int64
        In [0, classes).

    Returns
    -------
    dict of str to Tensor
        In the order of ``model``: gradients of parameters, new values of buffers such as batch statistics.
    """
    names = {name for name, _ in module.named_parameters()}
    # Batch normalisation writes its statistics into the buffers that it is given, so these are copied.
    leaves = {k: v.detach().requires_grad_() if k in names else v.detach().clone() for k, v in model.items()}
    parameters = [leaf for name, leaf in leaves.items() if name in names]
    loss = functional.cross_entropy(functional_call(module, leaves, (images,)), labels)
    found = iter(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))
    return {name: next(found) if name in names else leaf.detach() for name, leaf in leaves.items()}


def stacked_gradients(module: nn.Module, model: Mapping[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the gradients of k nodes with n images each, in one vmapped call.

    Parameters
    ----------
    module : nn.Module
        Without buffers: vmap cannot give each node's batch statistics back.
    model : mapping of str to Tensor
        Parameters, the same for all nodes.
    images : Tensor, shape (k, n, channels, height, width)
        Full batches.
    labels : Tensor, shape (k, n), int64
        In [0, classes).

    Returns
    -------
    dict of str to Tensor, each of shape (k, ...)
        `gradient` of every node, to rounding: sums are taken in another order.
    """

    def loss(weights: dict[str, Tensor], own: Tensor, truth: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(module, weights, (own,)), truth)

    found: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(dict(model), images, labels)
    return found


def local_weights(
    module: nn.Module, model: Mapping[str, Tensor], images: Tensor, labels: Tensor, sgd: LocalSGD, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return parameters and buffers after local epochs from ``model``.

    Parameters
    ----------
    module, model, images, labels
        As for `gradient`; the module's own weights are overwritten.
    sgd : LocalSGD
        The steps.
    rng : numpy.random.Generator
        Of the order of images, anew in every epoch.
    """
    module.load_state_dict(dict(model))
    optimizer = torch.optim.SGD(module.parameters(), lr=sgd.learning_rate, momentum=sgd.momentum)
    for _ in range(sgd.epochs):
        order = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
        for batch in torch.split(order, sgd.batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(module(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
