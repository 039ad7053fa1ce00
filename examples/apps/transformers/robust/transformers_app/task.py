"""The model, the data and the training loop; nothing here knows of Flower, and nothing is downloaded."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification

VOCABULARY, WORDS = 500, 24
PRAISE, BLAME = range(1, 40), range(40, 79)
"""Ids of words that praise and of words that blame; the others say nothing. Id 0 pads, and is never used."""


def make_model(seed: int = 0) -> BertForSequenceClassification:
    """Return a BERT of one layer with random weights, with a head for two classes."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=WORDS,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def load_data(partition_id: int, num_partitions: int) -> tuple[DataLoader, DataLoader]:
    """Return a node's share of the training reviews and of the test reviews, every fifth of all.

    A review is a row of word ids. Its label says whether more of its words praise than blame.
    """
    rng = np.random.default_rng(0)
    reviews = rng.integers(1, VOCABULARY, (6000, WORDS))
    balance = np.isin(reviews, PRAISE).sum(axis=1) - np.isin(reviews, BLAME).sum(axis=1)
    reviews, labels = reviews[balance != 0], (balance[balance != 0] > 0).astype(np.int64)
    is_test = np.arange(len(labels)) % 5 == 0

    def share(chosen: np.ndarray) -> TensorDataset:
        part = slice(partition_id, None, num_partitions)
        return TensorDataset(torch.from_numpy(reviews[chosen][part]), torch.from_numpy(labels[chosen][part]))

    return DataLoader(share(~is_test), batch_size=32, shuffle=True), DataLoader(share(is_test), batch_size=256)


def train(model: BertForSequenceClassification, trainloader: DataLoader, epochs: int, lr: float) -> float:
    """Train in place with AdamW; return the mean loss of the last epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    losses: list[Tensor] = []
    for _ in range(epochs):
        losses = []
        for reviews, labels in trainloader:
            optimizer.zero_grad()
            loss = model(input_ids=reviews, labels=labels).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses).mean().item()


@torch.no_grad()
def test(model: BertForSequenceClassification, testloader: DataLoader) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    model.eval()
    loss_sum, correct, count = 0.0, 0, 0
    for reviews, labels in testloader:
        found = model(input_ids=reviews, labels=labels)
        loss_sum += found.loss.item() * len(labels)
        correct += int((found.logits.argmax(dim=1) == labels).sum())
        count += len(labels)
    return loss_sum / count, correct / count
