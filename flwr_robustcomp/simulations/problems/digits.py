"""A one-hidden-layer ReLU network on scikit-learn's handwritten digits: 1797 real images of 8 x 8 pixels, no download."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

from flwr_robustcomp.clients.backdoor import with_trigger
from flwr_robustcomp.errors import require
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.problems.base import FullBatch, Relabel, stamped
from flwr_robustcomp.simulations.problems.root_sample import root_sample

__all__ = ["Digits"]

_CLASSES = 10


class Digits(FullBatch):
    """A 64-h-10 network with cross-entropy, in single precision; the training images are shared out equally at random.

    Parameters
    ----------
    nodes : int
        m.
    seed : int
        Of the split, the shares and the initial weights.
    hidden : int
        h, the width of the hidden layer.
    test_share : float
        Share of the images held out for ``accuracy``, in (0, 1).

    Notes
    -----
    Metrics: ``accuracy`` on the held-out images and ``loss``, the mean cross-entropy on all training images.
    """

    metric = "accuracy"
    better = "higher"
    labelled = True

    def __init__(self, nodes: int, seed: int, *, hidden: int = 64, test_share: float = 0.2) -> None:
        require(hidden >= 1, "problem.hidden", hidden, "at least 1")
        require(0 < test_share < 1, "problem.test_share", test_share, "in (0, 1)")
        images, labels = _images()
        order = torch.from_numpy(generator(seed, "digits split").permutation(len(labels)))
        held_out = round(test_share * len(labels))
        train = order[held_out:]
        self.share = len(train) // nodes
        require(self.share >= 1, "nodes", nodes, f"at most {len(train)}, the number of training images")
        self._test = images[order[:held_out]], labels[order[:held_out]]
        self._train = images[train], labels[train]
        self._hidden = hidden
        self._seed = seed

    def initial(self) -> dict[str, Tensor]:
        """Return weights drawn uniformly in +-1/sqrt(fan-in), torch's own default for linear layers."""
        rng = generator(self._seed, "digits weights")
        model: dict[str, Tensor] = {}
        for layer, fan_in, fan_out in (("hidden", 64, self._hidden), ("output", self._hidden, _CLASSES)):
            bound = fan_in**-0.5
            model[f"{layer}.weight"] = torch.from_numpy(rng.uniform(-bound, bound, (fan_out, fan_in))).float()
            model[f"{layer}.bias"] = torch.from_numpy(rng.uniform(-bound, bound, fan_out)).float()
        return model

    def gradient(self, partition: int, model: dict[str, Tensor], relabel: Relabel) -> dict[str, Tensor]:
        """Return the gradient of the mean cross-entropy on the node's images."""
        own = slice(partition * self.share, (partition + 1) * self.share)
        images, labels = (part[own] for part in self._train)
        return _gradient(model, stamped(images, relabel), relabel(labels, _CLASSES))

    def train_root(self, samples: int, model: dict[str, Tensor], round_: int, epochs: int = 1) -> dict[str, Tensor]:
        """Return the gradient on the server's images."""
        return _gradient(model, *self._root(samples))

    @torch.no_grad()
    def root_loss(self, samples: int, model: dict[str, Tensor]) -> float:
        """Return the mean cross-entropy on the server's images."""
        images, labels = self._root(samples)
        return float(functional.cross_entropy(_forward(model, images), labels))

    def _root(self, samples: int) -> tuple[Tensor, Tensor]:
        chosen = root_sample(self._seed, samples, len(self._train[1]))
        return self._train[0][chosen], self._train[1][chosen]

    def num_examples(self, partition: int) -> int:
        """Return the number of a node's images."""
        return self.share

    @torch.no_grad()
    def evaluate(self, model: dict[str, Tensor]) -> dict[str, float]:
        """Return test accuracy and training loss."""
        images, labels = self._test
        accuracy = (_forward(model, images).argmax(dim=1) == labels).double().mean()
        loss = functional.cross_entropy(_forward(model, self._train[0]), self._train[1])
        return {"accuracy": float(accuracy), "loss": float(loss)}

    @torch.no_grad()
    def backdoor(self, model: dict[str, Tensor], size: int, target: int) -> float:
        """Return how many of the marked test images are called ``target``."""
        images, labels = self._test
        marked = with_trigger(images[labels != target], size)
        return float((_forward(model, marked).argmax(dim=1) == target).double().mean())


def _gradient(model: dict[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in model.items()}
    loss = functional.cross_entropy(_forward(leaves, images), labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def _forward(model: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return the logits, shape (images, 10)."""
    hidden = functional.relu(functional.linear(images, model["hidden.weight"], model["hidden.bias"]))
    return functional.linear(hidden, model["output.weight"], model["output.bias"])


@functools.cache
def _images() -> tuple[Tensor, Tensor]:
    """Return all images, shape (1797, 64) in [0, 1], and their labels."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (a second's import that only this problem needs)

    data = load_digits()
    return torch.from_numpy(data.data).float() / 16, torch.from_numpy(data.target).long()
