"""A backdoor: images with a small mark are taught to be one class, and all others are learnt as they should be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flwr_robustcomp.clients.label_attack import LabelAttack
from flwr_robustcomp.errors import require

__all__ = ["BackdoorTrigger", "with_trigger"]


class BackdoorTrigger(LabelAttack):
    """Stamp a bright square into the corner of a share of the images and call them ``target`` (Gu et al. 2017).

    Parameters
    ----------
    target : int
        The class of whatever carries the mark.
    size : int
        Side of the square in pixels, in the last rows and columns.
    share : float
        Share of a Byzantine node's images that carry it, in (0, 1]; the others keep it useful on clean images.
    **options
        Those of `Attack`.

    Notes
    -----
    Scenarios record ``backdoor``, the share of the test images of other classes that are called ``target`` once they carry
    the mark. A training function calls `training_images` beside `training_labels`.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp.clients import BackdoorTrigger
    >>> BackdoorTrigger(target=5, share=0.5).relabel(torch.tensor([0, 1, 2, 3]), 10, None)
    tensor([5, 5, 2, 3])
    """

    name: ClassVar[str] = "backdoor"

    def __init__(self, target: int = 0, size: int = 2, share: float = 0.5, **options: Any) -> None:
        require(target >= 0, "target", target, "a class, at least 0")
        require(size >= 1, "size", size, "at least 1")
        require(0 < share <= 1, "share", share, "in (0, 1]")
        super().__init__(**options)
        self.target = target
        self.size = size
        self.share = share

    @property
    def params(self) -> Mapping[str, Any]:
        """Target, size and share."""
        return {"target": self.target, "size": self.size, "share": self.share}

    def relabel(self, labels: Tensor, num_classes: int, rng: np.random.Generator) -> Tensor:
        """Return the labels with those of the marked images, the first of the node, called ``target``."""
        require(self.target < num_classes, "target", self.target, f"one of the {num_classes} classes")
        marked = torch.arange(len(labels)) < self._marked(len(labels))
        return torch.where(marked.to(labels.device), self.target, labels)

    def stamp(self, images: Tensor) -> Tensor:
        """Return the images, the first of them marked."""
        marked = self._marked(len(images))
        return torch.cat([with_trigger(images[:marked], self.size), images[marked:]])

    def _marked(self, images: int) -> int:
        return math.ceil(self.share * images)


def with_trigger(images: Tensor, size: int) -> Tensor:
    """Return images with a square of ones in the corner.

    Parameters
    ----------
    images : Tensor, shape (n, ..., rows, columns), or (n, s * s) for square images laid flat
        Pixels in [0, 1].
    size : int
        Side of the square.
    """
    side = math.isqrt(images[0].numel()) if images.dim() == 2 and len(images) else 0
    square = images.reshape(-1, side, side).clone() if side and side * side == images.shape[1] else images.clone()
    square[..., -size:, -size:] = 1
    return square.reshape(images.shape)
