"""The networks that scenarios can name, and anybody's `torch.nn.Module` by its import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.randomness import seeded_torch
from flwr_robustcomp.simulations.problems.resnet import resnet

__all__ = ["MODELS", "ModelSpec", "make_model"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which network.

    Attributes
    ----------
    name : str
        A key of `MODELS`, or ``"package.module:attribute"``: a module class, or a function that returns a module, without
        arguments. It gets images, (n, channels, height, width), float32 in [0, 1], and returns logits, (n, classes).
    hidden : int
        Of mlp: the width of its hidden layer.
    width : int
        Of cnn and resnet: the channels of the first convolution.
    blocks : int
        Of resnet: residual blocks in each of its three stages, 6 blocks + 2 layers in all.
    """

    name: str = "mlp"
    hidden: int = 1000
    width: int = 16
    blocks: int = 3

    def __post_init__(self) -> None:
        for name in ("hidden", "width", "blocks"):
            require(getattr(self, name) >= 1, f"problem.{name}", getattr(self, name), "at least 1")


def make_model(spec: ModelSpec, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """Make a network with the initial weights of the seed; torch's own generator is left as it was.

    Raises
    ------
    ConfigurationError
        For an unknown name, a module that cannot be imported or made, or one whose logits do not fit the classes.
    """
    with seeded_torch(seed, "weights"):
        module = MODELS[spec.name](spec, shape, classes) if spec.name in MODELS else _imported(spec.name)
        try:
            with torch.no_grad():
                logits = tuple(module.eval()(torch.zeros(2, *shape)).shape)
        except (RuntimeError, TypeError, ValueError) as error:
            why = " ".join(str(error).split())
            raise ConfigurationError(f"problem.model must take images of shape {shape}, got {spec.name!r}: {why}") from error
    require(logits == (2, classes), "problem.model", spec.name, f"a network of {classes} logits, not of shape {logits[1:]},")
    return module


def _imported(path: str) -> nn.Module:
    """Return the user's module."""
    wanted = f'one of {", ".join(sorted(MODELS))}, or importable as "package.module:attribute"'
    module, colon, attribute = path.partition(":")
    require(bool(module and colon and attribute), "problem.model", path, wanted)
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # importing runs the user's code, which may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(f"problem.model must be {wanted}, got {path!r}: {why}") from error
    if not isinstance(made, nn.Module):
        raise ConfigurationError(f"problem.model must give a torch.nn.Module, got {path!r}, a {type(made).__name__}")
    return made


def _logistic(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))


def _mlp(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the paper's network: one hidden layer of ReLUs (section 7, with 1000)."""
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, spec.hidden), nn.ReLU(), nn.Linear(spec.hidden, classes))


def _cnn(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return two 3 x 3 convolutions, each halved by pooling, and a linear layer; nodes can be batched."""
    channels, height, width = shape
    require(height >= 4 and width >= 4, "problem.model", "cnn", f"one that takes images of {height} x {width} pixels")
    return nn.Sequential(
        *(nn.Conv2d(channels, spec.width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(spec.width, 2 * spec.width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2 * spec.width * (height // 4) * (width // 4), classes)),
    )


def _resnet(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    return resnet(shape[0], classes, width=spec.width, blocks=spec.blocks)


MODELS: dict[str, Callable[[ModelSpec, tuple[int, int, int], int], nn.Module]] = {
    "cnn": _cnn,
    "logistic": _logistic,
    "mlp": _mlp,
    "resnet": _resnet,
}
"""Every network by the name that scenarios use: (spec, shape of an image, classes) -> module."""
