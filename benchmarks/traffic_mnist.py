"""The part of MNIST that docs/traffic.md trains on: small enough for two cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.problems.folder import read_folder
from flwr_robustcomp.simulations.problems.images import Split

__all__ = ["FOLDER", "TEST", "TRAIN", "cut"]

FOLDER = "out/traffic-mnist"
"""Where it lies, from the folder in which the harness runs: the same text on every machine, for it names the runs."""

TRAIN, TEST = 10_000, 2_000
"""How many images."""


def cut(data: Path) -> None:
    """Read MNIST from a folder and keep `TRAIN` and `TEST` of its images in `FOLDER`, the same ones each time."""
    whole, out = read_folder(data), Path(FOLDER)
    out.mkdir(parents=True, exist_ok=True)
    x_train, y_train = _some(whole.train, TRAIN, "train")
    x_test, y_test = _some(whole.test, TEST, "test")
    np.savez_compressed(out / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def _some(split: Split, count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    places = np.sort(generator(0, f"traffic mnist {name}").permutation(len(split))[:count])
    return split.pixels.numpy()[places].transpose(0, 2, 3, 1), split.labels.numpy()[places]
