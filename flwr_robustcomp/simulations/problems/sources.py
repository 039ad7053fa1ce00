"""Where images come from: scikit-learn's own, a folder, or a download by flwr-datasets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from flwr_robustcomp.errors import ConfigurationError, require
from flwr_robustcomp.randomness import generator
from flwr_robustcomp.simulations.problems.folder import EXPECTED, read_folder
from flwr_robustcomp.simulations.problems.images import Images, Split

__all__ = ["SOURCES", "load_images"]

_TEST_SHARE = 0.2


def load_images(data: str, data_dir: str | None = None) -> Images:
    """Load a data set; the same one again is not read twice by a process.

    Parameters
    ----------
    data : str
        A key of `SOURCES`.
    data_dir : str, optional
        The folder to read it from. Without one, mnist and cifar10 are downloaded, and folder cannot be.

    Raises
    ------
    ConfigurationError
        In one line that says every way to get at the data.
    """
    require(data in SOURCES, "problem.data", data, f"one of {', '.join(sorted(SOURCES))}")
    require(data_dir is None or data != "digits", "problem.data_dir", data_dir, "absent for digits, which need no files")
    return _load(data, None if data_dir is None else str(Path(data_dir).expanduser().resolve()))


@functools.lru_cache(maxsize=2)
def _load(data: str, data_dir: str | None) -> Images:
    return SOURCES[data]() if data_dir is None else read_folder(Path(data_dir))


def _digits() -> Images:
    """Return scikit-learn's 1797 digits of 8 x 8 pixels, a fifth of them held out; the split is the same for every seed."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (an extra, and a second's import)

    data = load_digits()
    pixels = torch.from_numpy(data.images.astype(np.uint8))[:, None]  # (1797, 1, 8, 8)
    everything = Split(pixels, torch.from_numpy(data.target).long())
    order = torch.from_numpy(generator(0, "digits held out").permutation(len(everything)))
    held_out = round(_TEST_SHARE * len(everything))
    return Images(everything.take(order[held_out:]), everything.take(order[:held_out]), white=16.0)


def _download(name: str, repository: str, columns: tuple[str, str]) -> Images:
    """Download by flwr-datasets, which keeps what it downloaded."""
    ways = (
        f"problem.data {name!r} needs its images: either --data-dir DIR (problem.data_dir) with {EXPECTED}, "
        "or a network and flwr-datasets (pip install 'flwr-robustcomp[data]')"
    )
    try:
        from flwr_datasets import FederatedDataset  # noqa: PLC0415 (an extra, and seconds of import)

        whole = FederatedDataset(dataset=repository, partitioners={})
        splits = []
        for part in ("train", "test"):
            rows = whole.load_split(part).with_format("numpy")
            pixels = np.asarray(rows[columns[0]][:], dtype=np.uint8)
            pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
            splits.append(Split(torch.from_numpy(pixels.copy()), torch.from_numpy(np.asarray(rows[columns[1]][:], np.int64))))
    except Exception as error:  # whatever a download runs into, there are the same two ways out
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(f"{ways}, got neither ({why[:160]})") from error
    return Images(splits[0], splits[1])


def _no_folder() -> Images:
    raise ConfigurationError(f"problem.data_dir must be a folder with {EXPECTED}, got None")


SOURCES: dict[str, Callable[[], Images]] = {
    "cifar10": functools.partial(_download, "cifar10", "uoft-cs/cifar10", ("img", "label")),
    "digits": _digits,
    "folder": _no_folder,
    "mnist": functools.partial(_download, "mnist", "ylecun/mnist", ("image", "label")),
}
"""Every source by the name that scenarios use, as it loads without a folder."""
