"""A perceptron in NumPy alone, its data and its training loop; nothing here knows of Flower."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Weights = list[NDArray[np.float64]]


def initial_weights(seed: int) -> Weights:
    """Return the weights and biases of one hidden layer of 64 and of the output: 4,810 parameters."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.2, (64, 64)), np.zeros(64), rng.normal(0, 0.2, (64, 10)), np.zeros(10)]


def load_data(partition_id: int, num_partitions: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return a node's share of the training images and labels, and of the test ones, every fifth of all."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    is_test = np.arange(len(order)) % 5 == 0
    train, test = order[~is_test][partition_id::num_partitions], order[is_test][partition_id::num_partitions]
    images = data.data / 16
    return images[train], data.target[train], images[test], data.target[test]


def train(weights: Weights, images: NDArray, labels: NDArray, epochs: int, lr: float) -> Weights:
    """Return the weights after some epochs of gradient descent in batches of 32."""
    w1, b1, w2, b2 = (weight.copy() for weight in weights)
    one_hot = np.eye(10)[labels]
    for _ in range(epochs):
        for start in range(0, len(images), 32):
            x, wanted = images[start : start + 32], one_hot[start : start + 32]
            hidden, probabilities = _forward([w1, b1, w2, b2], x)
            error = (probabilities - wanted) / len(x)  # (batch, 10), the gradient at the logits
            error_hidden = (error @ w2.T) * (hidden > 0)  # (batch, 64)
            w2 -= lr * hidden.T @ error
            b2 -= lr * error.sum(axis=0)
            w1 -= lr * x.T @ error_hidden
            b1 -= lr * error_hidden.sum(axis=0)
    return [w1, b1, w2, b2]


def test(weights: Weights, images: NDArray, labels: NDArray) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    _, probabilities = _forward(weights, images)
    right = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(right + 1e-12).mean()), float((probabilities.argmax(axis=1) == labels).mean())


def _forward(weights: Weights, images: NDArray) -> tuple[NDArray, NDArray]:
    """Return the hidden layer, shape (images, 64), and the probabilities, shape (images, 10)."""
    w1, b1, w2, b2 = weights
    hidden = np.maximum(images @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, powers / powers.sum(axis=1, keepdims=True)
