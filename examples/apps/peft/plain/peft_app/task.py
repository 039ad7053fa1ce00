"""The pretrained network, its adapters, the data and the training loop; nothing here knows of Flower."""

import copy
import functools

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A perceptron with two hidden layers of 256 on images of 8 x 8 pixels: 85,002 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 256)
        self.second = nn.Linear(256, 256)
        self.output = nn.Linear(256, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (images, 10)."""
        return self.output(functional.relu(self.second(functional.relu(self.first(images)))))


@functools.cache
def pretrained() -> Net:
    """Return the network that everybody has before the first round: it was trained on the digits 0 to 4 alone."""
    torch.manual_seed(0)
    net = Net()
    trainloader, _ = load_data(0, 1)
    images, labels = trainloader.dataset.tensors
    train(net, DataLoader(TensorDataset(images[labels < 5], labels[labels < 5]), batch_size=32), epochs=3, lr=1e-3)
    return net


def make_model() -> PeftModel:
    """Return the pretrained network, frozen, with adapters of rank 8, which have 8,784 parameters."""
    torch.manual_seed(0)  # the adapters start alike everywhere
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["first", "second", "output"])
    return get_peft_model(copy.deepcopy(pretrained()), config)


def load_data(partition_id: int, num_partitions: int) -> tuple[DataLoader, DataLoader]:
    """Return a node's share of the training images and of the test images, every fifth of all."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    is_test = np.arange(len(order)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    trainloader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True)
    return trainloader, DataLoader(TensorDataset(images[test], labels[test]), batch_size=256)


def train(model: nn.Module, trainloader: DataLoader, epochs: int, lr: float) -> float:
    """Train in place what is not frozen, with AdamW; return the loss of the last batch."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    loss = torch.zeros(())
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
    return loss.item()


@torch.no_grad()
def test(model: nn.Module, testloader: DataLoader) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    model.eval()
    loss_sum, correct, count = 0.0, 0, 0
    for images, labels in testloader:
        logits = model(images)
        loss_sum += functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum())
        count += len(labels)
    return loss_sum / count, correct / count
