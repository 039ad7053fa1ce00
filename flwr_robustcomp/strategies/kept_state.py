"""What a strategy finds in a checkpoint, held against what it can have put there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import ConfigRecord, RecordDict
from torch import Tensor

from flwr_robustcomp.errors import ConfigurationError, require

__all__ = ["check_vectors", "kept_seed"]


def check_vectors(what: str, vectors: Mapping[str, Tensor], d: int | None = None, dtype: torch.dtype | None = None) -> None:
    """Refuse anything but finite vectors of one length.

    Parameters
    ----------
    what : str
        What they belong to, for the message.
    vectors : mapping of str to Tensor
        From a checkpoint.
    d : int, optional
        Their length, where the model is known.
    dtype : torch.dtype, optional
        Their dtype, where the model is known; else any that is floating.

    Raises
    ------
    ConfigurationError
        If one has another shape or dtype, NaN or infinity: a sum with it would fail in the middle of a round, be broadcast
        to other lengths, or leave all later rounds without a step.
    """
    for name, vector in vectors.items():
        length = next(iter(vectors.values())).numel() if d is None else d
        require(tuple(vector.shape) == (length,), f"shape of {what} {name!r}", tuple(vector.shape), f"({length},)")
        fits = vector.dtype.is_floating_point if dtype is None else vector.dtype == dtype
        require(fits, f"dtype of {what} {name!r}", str(vector.dtype), str(dtype or "floating"))
        require(bool(torch.isfinite(vector).all()), f"{what} {name!r}", "NaN or inf", "finite")


def kept_seed(state: RecordDict, name: str, own: int) -> int:
    """Return the seed in a record; the strategy's own where there is none, as in checkpoints of 0.1.0.

    Raises
    ------
    ConfigurationError
        Unless it is an integer from 0.
    """
    record = state.get(name)
    if not isinstance(record, ConfigRecord):
        return own
    seed = record.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        small = isinstance(seed, float) or (isinstance(seed, int) and abs(seed) < 2**128)  # others take long to print
        got = repr(seed) if small else type(seed).__name__
        raise ConfigurationError(f"seed of {name!r} must be an integer in [0, 2**64), got {got}")
    return seed
