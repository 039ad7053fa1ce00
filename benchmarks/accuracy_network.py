"""The networks of docs/accuracy.md and docs/traffic.md: small enough for two cores, and large enough to compress."""

from __future__ import annotations

from torch import nn

__all__ = ["WEIGHTS", "mnist_network", "network"]

WEIGHTS = 38_282
"""d, biases included."""


def network() -> nn.Module:
    """Return two 3 x 3 convolutions, one pooling and two linear layers: `WEIGHTS` parameters.

    It takes images of shape (n, 1, 8, 8), and returns logits of shape (n, 10).
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def mnist_network() -> nn.Module:
    """Return two 3 x 3 convolutions of stride 2 and two linear layers: 105,866 parameters.

    It takes images of shape (n, 1, 28, 28), and returns logits of shape (n, 10).
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
