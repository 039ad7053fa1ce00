"""Labelled images as every source gives them: bytes until they are used, channels first."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from flwr_robustcomp.errors import ConfigurationError, require

__all__ = ["Images", "Split"]


@dataclass(frozen=True)
class Split:
    """Images of one use, training or test.

    Attributes
    ----------
    pixels : Tensor, shape (n, channels, height, width), uint8
        MNIST's 60,000 take 47 MB so, and four times that as float32.
    labels : Tensor, shape (n,), int64
        In [0, classes).
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return n."""
        return len(self.labels)

    def take(self, index: Tensor) -> Split:
        """Return some of the images, in the order of ``index``."""
        return Split(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class Images:
    """A data set for classification.

    Attributes
    ----------
    train, test : Split
        At least one image each, all of one shape.
    white : float
        The pixel value that stands for 1: 255 for bytes, 16 for scikit-learn's digits.
    """

    train: Split
    test: Split
    white: float = 255.0

    def __post_init__(self) -> None:
        for name, split in (("training", self.train), ("test", self.test)):
            if split.pixels.ndim != 4 or len(split.pixels) != len(split.labels) or not len(split):
                raise ConfigurationError(
                    f"{name} images must be of shape (n, channels, height, width) with n labels, n at least 1, "
                    f"got {tuple(split.pixels.shape)} and {len(split.labels)} labels"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            require(0 <= low and high < self.classes, f"{name} labels", (low, high), f"in [0, {self.classes - 1}]")
        shapes = {tuple(split.pixels.shape[1:]) for split in (self.train, self.test)}
        require(len(shapes) == 1, "shape of training and test images", sorted(shapes), "one and the same")
        require(self.classes >= 2, "training labels", self.classes, "of at least 2 classes")

    @functools.cached_property
    def classes(self) -> int:
        """C: one more than the largest training label."""
        return int(self.train.labels.max()) + 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width

    def scaled(self, pixels: Tensor) -> Tensor:
        """Return pixels as float32 in [0, 1]."""
        return pixels.to(torch.float32).div_(self.white)
