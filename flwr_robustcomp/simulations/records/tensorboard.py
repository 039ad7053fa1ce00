"""Curves for TensorBoard, as an option beside the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr_robustcomp.errors import ConfigurationError
from flwr_robustcomp.simulations.records.curves import Observe
from flwr_robustcomp.simulations.records.record import RoundRecord

__all__ = ["tensorboard"]

_SKIPPED = ("round", "kept")
"""Counts that say nothing as a curve."""


@contextmanager
def tensorboard(folder: Path | None, names: Mapping[str, str]) -> Iterator[Observe]:
    """Yield a function that writes every number of a round's record as a scalar.

    Parameters
    ----------
    folder : Path, optional
        Where to; None writes nothing.
    names : mapping of str to str
        The run's name in TensorBoard by the key of its cell; slashes group runs.

    Raises
    ------
    ConfigurationError
        If TensorBoard is not installed, before anything is run.
    """
    if folder is None:
        yield lambda key, record: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra, and seconds to import)
    except ImportError as error:
        raise ConfigurationError("tensorboard is not installed: pip install 'flwr-robustcomp[tensorboard]'") from error
    writers: dict[str, Any] = {}

    def write(key: str, record: RoundRecord) -> None:
        if key not in writers:
            writers[key] = SummaryWriter(str(folder / names.get(key, key)))
        for tag, value in _scalars(record):
            writers[key].add_scalar(tag, value, record["round"])

    try:
        yield write
    finally:
        for writer in writers.values():
            writer.close()


def _scalars(record: RoundRecord) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record by tag; lists and mappings by their length, norms by their median."""
    for name, value in record.items():
        if name in _SKIPPED:
            continue
        if name == "norms":
            yield from ((f"norm/{who}", median) for who, (_, median, _) in value.items())
        elif name == "forms":
            yield from ((f"form/{form}", count) for form, count in value.items())
        elif isinstance(value, list | dict):
            yield name, len(value)
        elif isinstance(value, int | float):
            yield name, value
