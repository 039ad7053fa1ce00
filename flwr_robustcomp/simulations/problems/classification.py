"""Image classification put together from a data source, a network, a partition and a way to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flwr_robustcomp.clients.backdoor import with_trigger
from flwr_robustcomp.clients.update import Reply
from flwr_robustcomp.errors import require
from flwr_robustcomp.layout import Layout
from flwr_robustcomp.randomness import generator, seeded_torch
from flwr_robustcomp.simulations.problems.base import Relabel, stamped
from flwr_robustcomp.simulations.problems.images import Split
from flwr_robustcomp.simulations.problems.models import ModelSpec, make_model
from flwr_robustcomp.simulations.problems.partition import PartitionSpec, partition
from flwr_robustcomp.simulations.problems.root_sample import root_sample
from flwr_robustcomp.simulations.problems.sources import load_images
from flwr_robustcomp.simulations.problems.training import LocalSGD, gradient, local_weights, stacked_gradients

__all__ = ["Classification", "Training"]

Training = Literal["gradient", "local"]
"""Reply with the full-batch gradient, as in the paper, or with the weights after local epochs."""

_EVALUATED_AT_ONCE = 1000


class Classification:
    """Cross-entropy of a network on images.

    Parameters
    ----------
    nodes : int
        m.
    seed : int
        Of the partition, the initial weights, the order of minibatches and the images that are evaluated.
    data : str
        "digits" (needs no files), "mnist", "cifar10" or "folder".
    data_dir : str, optional
        Folder of the images; see `folder.EXPECTED`. Without one, mnist and cifar10 are downloaded by flwr-datasets.
    model : str
        "mlp", "logistic", "cnn", "resnet", or "package.module:attribute".
    hidden, width, blocks : int
        Of the models; see `ModelSpec`.
    partition : str
        "iid", "dirichlet", "shards" or "sizes".
    alpha, shards, sizes
        Of the partitions; see `PartitionSpec`.
    training : {"gradient", "local"}
        What nodes reply with. For "local" the strategy's step_size is 1: nodes reply with weights.
    epochs, batch_size, learning_rate, momentum
        Of "local"; see `LocalSGD`.
    eval_examples : int, optional
        Evaluate on so many training and so many test images, the same in all rounds; by default on all.
    device : str
        "auto" (a GPU where there is one), or a device of torch's.

    Notes
    -----
    Metrics: ``accuracy`` on the test images and ``loss``, the mean cross-entropy on the training images with their true
    labels. Buffers that are compressed are sent as differences, like weights; the batch statistics travel as they are.
    """

    metric = "accuracy"
    better = "higher"
    labelled = True

    def __init__(
        self,
        nodes: int,
        seed: int,
        *,
        data: str = "digits",
        data_dir: str | None = None,
        model: str = "mlp",
        hidden: int = 1000,
        width: int = 16,
        blocks: int = 3,
        partition: str = "iid",  # shadows the function on purpose: it is the scenario's word
        alpha: float = 0.5,
        shards: int = 2,
        sizes: Sequence[int] = (),
        training: Training = "gradient",
        epochs: int = 1,
        batch_size: int = 32,
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        eval_examples: int | None = None,
        device: str = "auto",
    ) -> None:
        require(training in get_args(Training), "problem.training", training, f"one of {', '.join(get_args(Training))}")
        require(eval_examples is None or eval_examples >= 1, "problem.eval_examples", eval_examples, "at least 1")
        network = ModelSpec(name=model, hidden=hidden, width=width, blocks=blocks)
        spec = PartitionSpec(name=partition, alpha=alpha, shards=shards, sizes=tuple(sizes))
        self._sgd = LocalSGD(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, momentum=momentum)
        self._device = _device(device)
        self._seed = seed
        self._images = load_images(data, data_dir)
        module = make_model(network, self._images.shape, self._images.classes, seed)
        self._initial = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        self._module = module.to(self._device)
        self._buffers = frozenset(name for name, _ in module.named_buffers())
        self._aside = frozenset(slot.name for slot in Layout.of(self._initial).uncompressed)
        self._shares = [torch.from_numpy(s) for s in _shares(self._images.train.labels, nodes, seed, spec)]
        self._held: dict[int, Split] = {}
        self._evaluated = [
            _some(split, eval_examples, generator(seed, f"evaluated {name}"))
            for name, split in (("train", self._images.train), ("test", self._images.test))
        ]
        self.training = training
        self.reply: Reply = "update" if training == "gradient" else "weights"

    def initial(self) -> dict[str, Tensor]:
        """Return the initial weights and buffers, torch's own defaults under the seed."""
        return {name: tensor.clone() for name, tensor in self._initial.items()}

    def num_examples(self, partition: int) -> int:
        """Return the number of a node's images."""
        return len(self._shares[partition])

    def gradient(self, partition: int, model: dict[str, Tensor], relabel: Relabel) -> dict[str, Tensor]:
        """Return the gradient of the node's mean cross-entropy; buffers as an update, or as they are where they stay aside."""
        with seeded_torch(self._seed, "gradient", partition=partition):
            return self._gradient(model, *self._own(partition, relabel))

    def _gradient(self, model: dict[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self._module.train()
        found = gradient(self._module, self._placed(model), images, labels)
        for name in self._buffers - self._aside:
            found[name] = model[name].to(found[name].device) - found[name]
        return {name: tensor.cpu() for name, tensor in found.items()}

    def gradients(self, partitions: Sequence[int], model: dict[str, Tensor], relabels: Sequence[Relabel]) -> dict[str, Tensor]:
        """Return k gradients stacked; nodes with equally many images share one call, where the network has no buffers."""
        by_size: dict[int, list[int]] = {}
        for place, number in enumerate(partitions):
            by_size.setdefault(self.num_examples(number), []).append(place)
        stacked = {name: torch.empty(len(partitions), *tensor.shape, dtype=tensor.dtype) for name, tensor in model.items()}
        placed = self._placed(model)
        self._module.train()
        for places in by_size.values():
            if self._buffers or len(places) == 1:
                for place in places:
                    for name, tensor in self.gradient(partitions[place], model, relabels[place]).items():
                        stacked[name][place] = tensor
                continue
            own = [self._own(partitions[place], relabels[place]) for place in places]
            images, labels = (torch.stack(part) for part in zip(*own, strict=True))  # (k, n, ...), (k, n)
            found = stacked_gradients(self._module, placed, images, labels)
            if len(places) == len(partitions):
                return {name: found[name].cpu() for name in model}
            for name, tensor in found.items():
                stacked[name][places] = tensor.cpu()
        return stacked

    def train(self, partition: int, model: dict[str, Tensor], relabel: Relabel, round_: int) -> dict[str, Tensor]:
        """Return the gradient, or weights and buffers after local epochs."""
        if self.training == "gradient":
            return self.gradient(partition, model, relabel)
        rng = generator(self._seed, "minibatches", round_=round_, partition=partition)
        with seeded_torch(self._seed, "local training", round_=round_, partition=partition):
            return self._local(model, *self._own(partition, relabel), rng, self._sgd)

    def _local(
        self, model: dict[str, Tensor], images: Tensor, labels: Tensor, rng: np.random.Generator, sgd: LocalSGD
    ) -> dict[str, Tensor]:
        self._module.train()
        found = local_weights(self._module, self._placed(model), images, labels, sgd, rng)
        return {name: tensor.cpu() for name, tensor in found.items()}

    def train_root(self, samples: int, model: dict[str, Tensor], round_: int, epochs: int = 1) -> dict[str, Tensor]:
        """Return what a node with the server's images would: the gradient, or weights after ``epochs`` times its epochs."""
        own = self._root(samples)
        images, labels = self._pixels(own.pixels), own.labels.to(self._device)
        with seeded_torch(self._seed, "root training", round_=round_):
            if self.training == "gradient":
                return self._gradient(model, images, labels)
            sgd = replace(self._sgd, epochs=epochs * self._sgd.epochs)
            return self._local(model, images, labels, generator(self._seed, "root minibatches", round_=round_), sgd)

    @torch.no_grad()
    def root_loss(self, samples: int, model: dict[str, Tensor]) -> float:
        """Return the mean cross-entropy on the server's images; batch statistics are the model's."""
        placed = self._placed(model)
        self._module.eval()
        return self._measure(placed, self._root(samples))[0]

    def _root(self, samples: int) -> Split:
        return self._images.train.take(root_sample(self._seed, samples, len(self._images.train)))

    @torch.no_grad()
    def evaluate(self, model: dict[str, Tensor]) -> dict[str, float]:
        """Return test accuracy and training loss; batch statistics are the model's, not the batch's."""
        placed = self._placed(model)
        self._module.eval()
        (loss, _), (_, hits) = (self._measure(placed, split) for split in self._evaluated)
        return {"accuracy": hits, "loss": loss}

    @torch.no_grad()
    def backdoor(self, model: dict[str, Tensor], size: int, target: int) -> float:
        """Return how many of the marked test images are called ``target``."""
        _, test = self._evaluated
        others = test.take((test.labels != target).nonzero().flatten())
        placed = self._placed(model)
        self._module.eval()
        hits = 0
        for start in range(0, len(others), _EVALUATED_AT_ONCE):
            marked = with_trigger(self._pixels(others.pixels[start : start + _EVALUATED_AT_ONCE]), size)
            hits += int((torch.func.functional_call(self._module, placed, (marked,)).argmax(dim=1) == target).sum())
        return hits / len(others)

    def _measure(self, model: dict[str, Tensor], split: Split) -> tuple[float, float]:
        """Return mean cross-entropy and share of hits."""
        loss = hits = 0.0
        for start in range(0, len(split), _EVALUATED_AT_ONCE):
            now = slice(start, start + _EVALUATED_AT_ONCE)
            labels = split.labels[now].to(self._device)
            logits = torch.func.functional_call(self._module, model, (self._pixels(split.pixels[now]),))
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            hits += float((logits.argmax(dim=1) == labels).sum())
        return loss / len(split), hits / len(split)

    def _own(self, partition: int, relabel: Relabel) -> tuple[Tensor, Tensor]:
        """Return a node's images, shape (n, channels, height, width), and the labels that it trains on."""
        if (own := self._held.get(partition)) is None:  # taken once: a node is asked every round, and by one process
            own = self._held[partition] = self._images.train.take(self._shares[partition])
        pixels = stamped(self._pixels(own.pixels), relabel)
        return pixels, relabel(own.labels, self._images.classes).to(self._device)

    def _pixels(self, pixels: Tensor) -> Tensor:
        return self._images.scaled(pixels.to(self._device))

    def _placed(self, model: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in model.items()}


def _shares(labels: Tensor, nodes: int, seed: int, spec: PartitionSpec) -> list[np.ndarray]:
    return partition(labels.numpy(), nodes, seed, spec)


def _some(split: Split, count: int | None, rng: np.random.Generator) -> Split:
    if count is None or count >= len(split):
        return split
    return split.take(torch.from_numpy(rng.permutation(len(split))[:count]))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        require(False, "problem.device", name, f"auto or a device of torch's that is there ({str(error).splitlines()[0]})")
    return device
