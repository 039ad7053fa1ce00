"""The model, the data and the training loop; nothing here knows of Flower."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A perceptron with one hidden layer of 256 on images of 8 x 8 pixels: 19,210 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 256)
        self.output = nn.Linear(256, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (images, 10)."""
        return self.output(functional.relu(self.hidden(images)))


def load_data(partition_id: int, num_partitions: int) -> tuple[DataLoader, DataLoader]:
    """Return a node's share of the training images and of the test images, every fifth of all."""
    data = load_digits()
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    is_test = torch.arange(len(labels)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    trainloader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True)
    return trainloader, DataLoader(TensorDataset(images[test], labels[test]), batch_size=256)


def train(net: Net, trainloader: DataLoader, epochs: int, lr: float) -> float:
    """Train in place; return the mean loss of the last epoch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    net.train()
    loss_sum = 0.0
    for _ in range(epochs):
        loss_sum = 0.0
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
    return loss_sum / len(trainloader)


@torch.no_grad()
def test(net: Net, testloader: DataLoader) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    net.eval()
    loss_sum, correct, count = 0.0, 0, 0
    for images, labels in testloader:
        logits = net(images)
        loss_sum += functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum())
        count += len(labels)
    return loss_sum / count, correct / count
