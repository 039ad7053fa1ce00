"""Images from a folder of the user's, without a network: MNIST's IDX files, gzipped or not, or one NumPy archive."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.problems.images import Images, Split

__all__ = ["EXPECTED", "read_folder"]

EXPECTED = "MNIST's four IDX files (train-images-idx3-ubyte, ..., or .gz) or one .npz with x_train, y_train, x_test, y_test"
"""What a folder may hold, for error lines."""

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UNSIGNED_BYTE = 0x08


def read_folder(folder: Path) -> Images:
    """Read the images of a folder.

    Parameters
    ----------
    folder : Path
        With `EXPECTED` in it. Arrays of an archive are uint8, (n, height, width) or (n, height, width, channels); labels are
        integers, shape (n,) or (n, 1). Those are the names and shapes of the archives that Keras keeps.

    Raises
    ------
    ConfigurationError
        If the folder holds neither, or a file is not what its name says.

    Notes
    -----
    CIFAR-10's original files are pickles, and unpickling runs code: they are not read. docs/problems.md shows the few
    lines that turn them into an archive.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"data_dir must be a folder with {EXPECTED}, got {str(folder)!r}, which is none")
    archives = sorted(folder.glob("*.npz"))
    found = [next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None) for name in _IDX_FILES]
    if all(found):
        arrays = [_read_idx(path) for path in found if path is not None]
    elif len(archives) == 1:
        arrays = _read_npz(archives[0])
    else:
        listed = sorted(path.name for path in folder.iterdir())[:8]
        raise ConfigurationError(f"data_dir must hold {EXPECTED}, got {str(folder)!r} with {listed}")
    try:
        return Images(_split(*arrays[:2]), _split(*arrays[2:]))
    except ConfigurationError as error:
        raise ConfigurationError(f"data_dir {str(folder)!r}: {error}") from error


def _read_idx(path: Path) -> npt.NDArray[np.generic]:
    """Read one IDX file: two zero bytes, type, number of axes, each axis as a big-endian int32, then the entries."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"data_dir: {path.name} must be readable, got {error}") from error
    axes = raw[3] if len(raw) >= 4 else 0
    start = 4 + 4 * axes
    if raw[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or len(raw) < start:
        raise ConfigurationError(
            f"data_dir: {path.name} must be an IDX file of unsigned bytes, got a head of {raw[:4].hex()!r}"
        )
    shape = tuple(np.frombuffer(raw, ">i4", axes, 4).tolist())
    entries = np.frombuffer(raw, np.uint8, offset=start)
    if min(shape, default=0) < 0 or len(entries) != np.prod(shape, dtype=object):
        raise ConfigurationError(f"data_dir: {path.name} must hold the {shape} entries that it declares, got {len(entries)}")
    return entries.reshape(shape)


def _read_npz(path: Path) -> list[npt.NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[key] for key in _KEYS]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigurationError(f"data_dir: {path.name} must hold {', '.join(_KEYS)}, got: {error}") from error


def _split(pixels: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> Split:
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or labels.dtype.kind not in "iu":
        raise ConfigurationError(
            "images must be uint8, (n, height, width) or (n, height, width, channels), with integer labels, "
            f"got {pixels.dtype} {pixels.shape} and {labels.dtype}"
        )
    return Split(_channels_first(pixels), torch.from_numpy(labels.reshape(-1).astype(np.int64)))


def _channels_first(pixels: npt.NDArray[np.generic]) -> Tensor:
    """Return pixels, shape (n, channels, height, width), as a tensor of their own."""
    images = pixels[..., None] if pixels.ndim == 3 else pixels  # (n, height, width, channels)
    return torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))
