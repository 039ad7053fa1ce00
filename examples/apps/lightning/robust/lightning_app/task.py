"""The model with its training step, and the data; nothing here knows of Flower."""

import logging
import warnings

import lightning
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")  # its advice about workers and logging intervals


class LitNet(lightning.LightningModule):
    """A perceptron with one hidden layer of 128 and batch normalisation: 9,866 parameters, and a counter that is an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (images, 10)."""
        return self.layers(images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Train with Adam, as Lightning's own quickstart does."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and the accuracy of a batch."""
        images, labels = batch
        logits = self(images)
        self.log("test_loss", functional.cross_entropy(logits, labels))
        self.log("test_acc", (logits.argmax(dim=1) == labels).float().mean())


def make_trainer(epochs: int = 1) -> lightning.Trainer:
    """Return a trainer that writes nothing to the disk and nothing to the screen."""
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def load_data(partition_id: int, num_partitions: int) -> tuple[DataLoader, DataLoader]:
    """Return a node's share of the training images and of the test images, every fifth of all."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    is_test = np.arange(len(order)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    trainloader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True, drop_last=True)
    return trainloader, DataLoader(TensorDataset(images[test], labels[test]), batch_size=256)
